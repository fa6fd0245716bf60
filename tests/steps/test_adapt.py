"""New users are adapted to part by part, and it does not show."""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recmeta.logs.mapping import Attribute, AttributeSource, LogMapping
from recmeta.logs.reading.files import Inputs
from recmeta.manifest import Manifest
from recmeta.serving.ranking import AdaptedUsers
from recmeta.steps.parts import given_users
from recmeta.steps.parts.user_parts import UserParts
from recmeta.steps.serving import adapt
from recmeta.steps.serving.adapt import AdaptOutputs
from recmeta.tasks.task_set import read_tasks
from recmeta.workspace import Workspace

if TYPE_CHECKING:
    from trained import Trained

BLOCKS = st.lists(st.lists(st.text("abcdé", max_size=3), max_size=12), min_size=1, max_size=4)


@given(BLOCKS, st.integers(1, 6))
def test_a_users_rows_are_in_one_part_in_their_order(
    tmp_path_factory: pytest.TempPathFactory, blocks: list[list[str]], num_parts: int
) -> None:
    parts = UserParts(str(tmp_path_factory.mktemp("parts") / "rows"))
    number = 0
    for users in blocks:
        numbers = list(range(number, number + len(users)))
        parts.add(
            pa.table({"user_id": pa.array(users, pa.string()), "n": pa.array(numbers, pa.int64())})
        )
        number += len(users)
    assert parts.num_rows == number
    found = [parts.part(n, num_parts) for n in range(num_parts)]
    assert all(part.column_names == ["user_id", "n"] for part in found)
    assert sorted(n for part in found for n in part["n"].to_pylist()) == list(range(number))
    everyone = [set(part["user_id"].to_pylist()) for part in found]
    assert sum(len(users) for users in everyone) == len(set().union(*everyone))
    for part in found:
        for user in set(part["user_id"].to_pylist()):
            own = part.filter(pc.equal(part["user_id"], user))["n"].to_pylist()
            assert own == sorted(own)


ROWS = ("list.", "level.")
"""States with a number for each of the user's rows begin so."""


def by_user(
    workspace: Workspace, done: Manifest[AdaptOutputs]
) -> dict[str, tuple[list[int], torch.Tensor]]:
    """Return what each user was adapted to, and all numbers of the state."""
    folder, found = workspace / done.outputs.states, {}
    for number in range(done.outputs.num_shards):
        users = AdaptedUsers.from_bytes(folder.read_bytes(f"shard-{number:05d}.safetensors"))
        tasks = read_tasks(folder, f"tasks-{number:05d}.arrow")
        assert tasks.user_id == users.user_id
        for place, user in enumerate(users.user_id):
            assert user not in found
            own = slice(int(tasks.support.offsets[place]), int(tasks.support.offsets[place + 1]))
            items = tasks.support.item[own].tolist()
            # What heads keep of a user's rows is padded to the longest of the shard.
            parts = [
                t[place][: len(items)] if name.startswith(ROWS) else t[place].flatten()
                for name, t in sorted(users.state.items())
                if t.dim() > 1
            ]
            found[user] = (items, torch.cat(parts))
    return found


def test_parts_change_nothing(
    trained: "Trained", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither do rows of one user that stand far apart, users without items, and profiles."""
    rows = [f"n{n % 11},i{n % 7:02d},{1 + n % 5}" for n in range(44)] + ["alone,,", "n1,i30,9x"]
    profiles = tmp_path / "profiles.csv"
    known = [{"user_id": f"n{n}", "age": 20.0 + n, "group": "g1"} for n in (0, 3, 10, 30)]
    pl.DataFrame(known).write_csv(profiles)
    columns = {"group": Attribute(kind="categorical"), "age": Attribute(kind="numeric")}

    def adapted(name: str, end: str) -> Manifest[AdaptOutputs]:
        path = tmp_path / name
        path.write_text("user_id,item_id,value\n" + "\n".join(rows) + end)
        users = AttributeSource(path=str(profiles), id_col="user_id", columns=columns)
        mapping = LogMapping(path=str(path), value_col="value", users=users)
        return adapt.run(mapping, trained.workspace, device="cpu")

    whole = adapted("whole.csv", "\n")
    monkeypatch.setattr(given_users, "ROWS_AT_ONCE", 8)
    in_parts = adapted("parts.csv", "\n\n")  # another file, so that it is done again
    assert whole.outputs.num_shards == 1
    assert in_parts.outputs.num_shards == 7
    assert whole.counts == in_parts.counts
    assert whole.counts["users"] == 13
    assert whole.counts["rows"] == 46
    assert whole.counts["bad_rows"] == 0
    assert whole.counts["bad_values"] == 1
    assert whole.counts["without_profile"] == 9
    expected, found = by_user(trained.workspace, whole), by_user(trained.workspace, in_parts)
    assert found.keys() == expected.keys()
    for user, (items, state) in expected.items():
        assert found[user][0] == items
        torch.testing.assert_close(found[user][1], state, rtol=1e-4, atol=1e-5)


def test_a_part_is_about_as_long_as_it_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(given_users, "ROWS_AT_ONCE", 1_000)
    frame = pl.DataFrame({"user_id": [f"u{n % 3_000}" for n in range(12_000)], "item_id": "i"})
    frame.write_parquet(tmp_path / "new.parquet")
    mapping = LogMapping(path=str(tmp_path / "new.parquet"))
    now = datetime.datetime.now(datetime.UTC)
    with given_users.read(mapping, Inputs.of(mapping), None, now) as users:
        lengths = [rows.num_rows for rows, _ in users.parts()]
    assert sum(lengths) == 12_000
    assert len(lengths) == 12
    assert max(lengths) < 1_300
