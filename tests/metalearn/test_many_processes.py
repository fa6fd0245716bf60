"""Many processes train the model that one trains, whoever of them dies."""

import contextlib
import dataclasses
import os
import signal
import socket
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch

from recmeta.errors import UserError
from recmeta.metalearn.learner import Params
from recmeta.metalearn.model import Model
from recmeta.metalearn.model_config import ModelConfig
from recmeta.metalearn.networks.config import PreferenceConfig
from recmeta.metalearn.outer_loop import processes, trainer
from recmeta.metalearn.outer_loop.checkpoint import CHECKPOINT, newest
from recmeta.metalearn.outer_loop.processes import Job, train, write
from recmeta.metalearn.outer_loop.ranks import Ranks
from recmeta.metalearn.outer_loop.trainer import Diverged, Epoch, TrainingConfig
from recmeta.tasks.episodes import EpisodeConfig
from recmeta.tasks.task_set import TaskSet
from recmeta.workspace import Folder, resumed

NETWORK = PreferenceConfig(embedding_dim=3, hidden_dims=(6,))
EPISODES = EpisodeConfig(batch_size=7)
CONFIG = TrainingConfig(epochs=7, patience=7, learning_rate=1e-2)
"""Of 50 steps over 48 users: in the last batch of an epoch there are six, and three ranks."""
slow = pytest.mark.skipif(os.environ.get("RECMETA_SLOW") != "1", reason="set RECMETA_SLOW=1")


class KilledError(Exception):
    """Stands for whatever may end a process."""


def new_model(task_set: TaskSet, algorithm: str = "bayesian-linear") -> Model:
    """Return a model with parameters in double precision."""
    config = ModelConfig(network=NETWORK, algorithm=algorithm)
    model = Model.untrained(config, task_set, torch.device("cpu"))
    fresh = model.learner.init_params(torch.Generator().manual_seed(2))
    model.params = {name: p.double() for name, p in fresh.items()}
    return model


def fit(
    task_set: TaskSet,
    count: int,
    algorithm: str = "bayesian-linear",
    **changes: object,
) -> tuple[Model, list[Epoch]]:
    """Train in so many processes with the settings of these tests, except where told otherwise."""
    model = new_model(task_set, algorithm)
    settings = {"episodes": EPISODES, "config": CONFIG, "seed": 4} | changes
    tasks = task_set.tasks("train"), task_set.tasks("dev")
    history = train(model, *tasks, processes=count, **settings)
    return model, history


def assert_same(one: tuple[Model, list[Epoch]], other: tuple[Model, list[Epoch]]) -> None:
    for first, second in zip(one[1], other[1], strict=True):
        assert first.number == second.number
        assert second.train_loss == pytest.approx(first.train_loss, rel=1e-10)
        assert second.dev_loss == pytest.approx(first.dev_loss, rel=1e-5)  # through float32
    for name, p in one[0].params.items():
        assert p.dtype == torch.float64
        torch.testing.assert_close(other[0].params[name], p, rtol=1e-9, atol=1e-10, msg=name)


@contextlib.contextmanager
def forked(count: int, work: Callable[[], None]) -> Iterator[None]:
    """Run as many ranks beside the block, without torchrun, and see that they end well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for number in range(count):
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # of threads; these do not hold locks
            child = os.fork()
        if child == 0:
            code = 1
            try:
                about = {"RANK": number, "WORLD_SIZE": count, "MASTER_PORT": port}
                os.environ.update({name: str(value) for name, value in about.items()})
                os.environ.update(MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME="lo")
                work()
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    yield
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * count


@pytest.mark.parametrize("count", [pytest.param(2, marks=slow), 3])
def test_ranks_train_the_model_of_one(task_set: TaskSet, tmp_path: Path, count: int) -> None:
    folder = Folder.at(tmp_path / "job")
    model = new_model(task_set)
    job = Job(
        episodes=EPISODES,
        config=CONFIG,
        seed=4,
        in_order=False,
        device="cpu",
        module="recmeta.metalearn.algorithms.closed_form.bayesian_linear",
        names=tuple(model.params),
    )
    write(folder, job, model, {s: task_set.tasks(s) for s in ("train", "dev")}, None, None)
    with forked(count, lambda: processes.work(folder)):
        expected, history = fit(task_set, 1)
    content = newest(resumed(folder / "run" / CHECKPOINT))
    assert content is not None
    run = trainer.TrainingState(model, CONFIG, 4, {}, stops_early=True)
    run.restore(content)
    model.params = run.best
    assert_same((expected, history), (model, run.history))


def test_sparse_and_dense_gradients_are_averaged(tmp_path: Path) -> None:
    """A rank's rows of a table may be others than another's, or none."""
    folder = Folder.at(tmp_path)

    def own(number: int) -> Params:
        rows = [[], [1, 3], [3, 3, 0]][number]
        values = torch.arange(2 * len(rows), dtype=torch.float64).view(-1, 2) + number
        table = torch.sparse_coo_tensor(
            torch.tensor([rows], dtype=torch.int64), values, (5, 2), check_invariants=True
        )
        return {
            "table": table,
            "weight": torch.full((2, 3), float(number), dtype=torch.float64),
            "rate": torch.tensor(number + 0.5),
        }

    def work() -> None:
        ranks = Ranks.joined(torch.device("cpu"))
        gradients, loss = ranks.mean(own(ranks.number), 2.0 * ranks.number, (ranks.number + 1) / 6)
        if ranks.is_first:
            found = {name: g.to_dense() for name, g in gradients.items()}
            assert gradients["table"].is_sparse
            found["loss"] = torch.tensor(loss, dtype=torch.float64)
            folder.write_bytes("found", safetensors.torch.save(found))
        ranks.leave()

    with forked(3, work):
        pass
    found = safetensors.torch.load(folder.read_bytes("found"))
    shares = [1 / 6, 2 / 6, 3 / 6]
    for name in ("table", "weight", "rate"):
        expected = sum(share * own(n)[name].to_dense() for n, share in enumerate(shares))
        torch.testing.assert_close(found[name], expected)
    assert float(found["loss"]) == pytest.approx(2.0 * shares[1] + 4.0 * shares[2])


def test_a_matrix_that_is_no_number_on_one_rank_stops_all() -> None:
    def work() -> None:
        ranks = Ranks.joined(torch.device("cpu"))

        def failing() -> torch.Tensor:
            return torch.linalg.cholesky(torch.eye(2) * (1 - 2 * ranks.number))

        with pytest.raises(torch.linalg.LinAlgError):
            ranks.agreed(failing)
        assert ranks.agreed(lambda: 7) == 7
        ranks.leave()

    with forked(2, work):
        pass


def test_parameters_that_part_are_noticed() -> None:
    def work() -> None:
        ranks = Ranks.joined(torch.device("cpu"))
        same = {"weight": torch.arange(5.0)}
        ranks.check_same(same)
        with pytest.raises(RuntimeError, match="have parted"):
            ranks.check_same({"weight": same["weight"] + 1e-7 * ranks.number})
        ranks.leave()

    with forked(2, work):
        pass


def test_a_batch_with_fewer_tasks_than_ranks_is_shared_all_the_same() -> None:
    parts = [Ranks(number, 3).share(2) for number in range(3)]
    assert [(list(own), share) for own, share in parts] == [([0], 0.5), ([1], 0.5), ([0], 0.0)]


def test_no_process_is_an_error(task_set: TaskSet) -> None:
    with pytest.raises(UserError, match="processes is 0"):
        fit(task_set, 0)


# With torchrun ------------------------------------------------------------------------------------


@slow
@pytest.mark.parametrize("algorithm", ["maml", "bayesian-linear", "latent-np", "selector"])
@pytest.mark.parametrize("count", [2, 3])
def test_processes_train_the_model_of_one(task_set: TaskSet, algorithm: str, count: int) -> None:
    assert_same(fit(task_set, 1, algorithm), fit(task_set, count, algorithm))


@slow
def test_training_goes_on_in_another_number_of_processes(task_set: TaskSet, tmp_path: Path) -> None:
    def stop(epoch: Epoch) -> None:
        if epoch.number >= 2:
            raise KilledError

    folder = Folder.at(tmp_path / "run")
    slower = {"episodes": dataclasses.replace(EPISODES, batch_size=1)}
    with pytest.raises(KilledError):
        fit(task_set, 2, checkpoint=folder, on_epoch=stop, **slower)
    assert not ranks_of_mine()
    told: list[Epoch] = []
    model, history = fit(task_set, 3, checkpoint=folder, on_epoch=told.append, **slower)
    assert told == history
    assert_same(fit(task_set, 1, **slower), (model, history))


@slow
def test_a_killed_rank_leads_to_the_same_model(task_set: TaskSet) -> None:
    killed = []

    def kill(epoch: Epoch) -> None:
        if epoch.number == 2:
            killed.append(ranks_of_mine()[-1])
            os.kill(killed[0], signal.SIGKILL)  # the next epoch is under way: it takes longer

    slower = {"episodes": dataclasses.replace(EPISODES, batch_size=1)}
    model, history = fit(task_set, 2, on_epoch=kill, **slower)
    assert killed
    assert_same(fit(task_set, 1, **slower), (model, history))


@slow
def test_what_diverges_says_so_once(task_set: TaskSet) -> None:
    wild = dataclasses.replace(CONFIG, learning_rate=1e30)
    with pytest.raises(Diverged, match="training diverged"):
        fit(task_set, 2, "maml", config=wild)


@slow
def test_ranks_end_with_who_asked_for_them(task_set: TaskSet) -> None:
    child = os.fork()
    if child == 0:
        slower = dataclasses.replace(EPISODES, batch_size=1)
        fit(task_set, 2, episodes=slower, config=dataclasses.replace(CONFIG, epochs=1000))
        os._exit(1)
    deadline = time.monotonic() + 120
    while len(ranks_of_mine()) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(ranks_of_mine()) == 2
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while ranks_of_mine() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not ranks_of_mine()


def ranks_of_mine() -> list[int]:
    """Return the ids of the processes that are ranks in this test's temporary folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            if "work" in words and any(tempfile.gettempdir() in word for word in words):
                found.append(int(path.parent.name))
    return sorted(found)
