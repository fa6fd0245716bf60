"""Concurrent things are worked on together, in order, and never more than may wait."""

import asyncio
import threading
import weakref
from collections.abc import Sequence

import pytest

from recmeta.endpoint.answers.batcher import Batcher, ClosingError


def test_what_gathers_while_one_batch_runs_is_the_next() -> None:
    async def scenario() -> list[list[int]]:
        batches: list[list[int]] = []
        go = threading.Event()

        def work(things: Sequence[int]) -> list[int]:
            batches.append(list(things))
            go.wait(5)
            return [10 * thing for thing in things]

        batcher = Batcher(work, most=3, wait_seconds=0.0, num_in_hand=lambda: 0)
        first = asyncio.create_task(batcher.submit(0))
        await asyncio.sleep(0.05)
        rest = [asyncio.create_task(batcher.submit(n)) for n in range(1, 6)]
        await asyncio.sleep(0.05)
        assert batcher.num_waiting == 5
        go.set()
        assert await asyncio.gather(first, *rest) == [0, 10, 20, 30, 40, 50]
        await batcher.close(5)
        return batches

    assert asyncio.run(scenario()) == [[0], [1, 2, 3], [4, 5]]


def test_the_first_waits_for_those_on_their_way() -> None:
    async def scenario() -> list[list[int]]:
        batches: list[list[int]] = []

        def work(things: Sequence[int]) -> Sequence[int]:
            batches.append(list(things))
            return things

        batcher = Batcher(work, most=8, wait_seconds=5.0, num_in_hand=lambda: 4)
        tasks = []
        for number in range(4):
            tasks.append(asyncio.create_task(batcher.submit(number)))
            await asyncio.sleep(0.02)
            assert bool(batches) == (number == 3)
        assert await asyncio.gather(*tasks) == [0, 1, 2, 3]
        await batcher.close(5)
        return batches

    assert asyncio.run(scenario()) == [[0, 1, 2, 3]]


def test_nobody_waits_long_for_one_that_does_not_come() -> None:
    async def scenario() -> None:
        batcher: Batcher[int, int] = Batcher(
            list, most=8, wait_seconds=0.02, num_in_hand=lambda: 100
        )
        async with asyncio.timeout(2):
            assert await batcher.submit(1) == 1
        await batcher.close(5)

    asyncio.run(scenario())


def test_a_closing_one_finishes_what_waits_and_refuses_the_rest() -> None:
    async def scenario() -> None:
        go = threading.Event()

        def work(things: Sequence[int]) -> Sequence[int]:
            go.wait(5)
            return things

        batcher = Batcher(work, most=1, wait_seconds=0.0, num_in_hand=lambda: 0)
        tasks = [asyncio.create_task(batcher.submit(n)) for n in range(3)]
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(batcher.close(5))
        await asyncio.sleep(0.01)
        with pytest.raises(ClosingError):
            await batcher.submit(4)
        go.set()
        assert await asyncio.gather(*tasks) == [0, 1, 2]
        assert await closing

    asyncio.run(scenario())


def test_a_request_that_was_given_up_does_no_harm() -> None:
    async def scenario() -> None:
        batcher: Batcher[int, int] = Batcher(list, most=4, wait_seconds=0.02, num_in_hand=lambda: 0)
        given_up = asyncio.create_task(batcher.submit(1))
        stays = asyncio.create_task(batcher.submit(2))
        await asyncio.sleep(0)
        given_up.cancel()
        assert await stays == 2
        await batcher.close(5)

    asyncio.run(scenario())


def test_what_was_given_up_does_not_wait_for_a_list_that_hangs() -> None:
    async def scenario() -> None:
        go = threading.Event()

        def work(things: Sequence[int]) -> Sequence[int]:
            go.wait(5)
            return things

        batcher = Batcher(work, most=2, wait_seconds=0.0, num_in_hand=lambda: 0)
        hung = asyncio.create_task(batcher.submit(0))
        await asyncio.sleep(0.02)
        tasks = [asyncio.create_task(batcher.submit(n)) for n in (1, 2, 3)]
        await asyncio.sleep(0)
        assert batcher.num_waiting == 3
        for task in tasks[:2]:
            task.cancel()
        await asyncio.sleep(0)
        assert batcher.num_waiting == 1
        go.set()
        assert await asyncio.gather(hung, tasks[2]) == [0, 3]
        assert await batcher.close(5)

    asyncio.run(scenario())


def test_closing_does_not_wait_for_what_hangs() -> None:
    async def scenario() -> None:
        go = threading.Event()

        def work(things: Sequence[int]) -> Sequence[int]:
            go.wait(5)
            return things

        batcher = Batcher(work, most=2, wait_seconds=0.0, num_in_hand=lambda: 0)
        hung = asyncio.create_task(batcher.submit(0))
        await asyncio.sleep(0.02)
        assert not await batcher.close(0.05)
        go.set()
        assert await hung == 0

    asyncio.run(scenario())


def test_nothing_of_the_last_list_is_held() -> None:
    class Thing:
        """Something of a user."""

    async def scenario() -> None:
        batcher: Batcher[Thing, Thing] = Batcher(
            list, most=4, wait_seconds=0.0, num_in_hand=lambda: 0
        )
        gone = weakref.ref(await batcher.submit(Thing()))
        for _ in range(200):
            if gone() is None:
                break
            await asyncio.sleep(0.01)
        assert gone() is None
        assert await batcher.close(5)

    asyncio.run(scenario())
