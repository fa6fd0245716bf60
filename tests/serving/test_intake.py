"""One user is checked by the rules by which files of many are read."""

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recmeta.errors import FieldError
from recmeta.metalearn.model import Model
from recmeta.serving.intake import GivenUser, Intake
from recmeta.serving.new_user_tasks import tasks_for_new_users

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["i00", "i01", " i02 ", "i29", "nope", "I00"]),
        st.floats(-2, 9, allow_nan=False),
        st.one_of(st.none(), st.integers(0, 3)),
    ),
    max_size=8,
)


@given(rows=ROWS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_it_says_what_becomes_of_every_row(
    model: Model, rows: list[tuple[str, float, int | None]]
) -> None:
    """What `check` refuses or remarks on is what `tasks_for_new_users` drops, and nothing else."""
    columns = list(zip(*rows, strict=True)) if rows else [(), (), ()]
    user = GivenUser(item_id=columns[0], value=columns[1], time=columns[2])
    table = pa.table(
        {
            "user_id": pa.array(["u"] * len(rows), pa.string()),
            "item_id": pa.array(columns[0], pa.string()),
            "value": pa.array(columns[1], pa.float32()),
            "timestamp": pa.array(columns[2], pa.int64()),
        }
    )
    _, counts = tasks_for_new_users(model, table)
    low, high = model.value_range
    intake = Intake(model)
    if any(not low <= value <= high for value in columns[1]):
        with pytest.raises(FieldError, match=r"interactions\[\d\]\.value: is .* between"):
            intake.check(user)
        return
    remarks = intake.check(user)
    kinds = [remark.kind for remark in remarks]
    assert kinds.count("unknown_item") == counts.unknown_items
    assert kinds.count("duplicate_item") == counts.duplicates
    tasks = intake.tasks([user])
    assert len(tasks.support.item) == counts.used == len(rows) - len(remarks)
    dropped = {remark.place for remark in remarks}
    kept = {columns[0][p].strip() for p in range(len(rows)) if p not in dropped}
    ids = model.catalogue.items.item_id
    assert {ids[int(item)].as_py() for item in tasks.support.item} == kept


def test_tasks_are_in_the_order_of_the_users(model: Model) -> None:
    users = [
        GivenUser(item_id=("i03",), value=(4.0,), time=(None,), profile={"age": 30.0}),
        GivenUser(),
        GivenUser(item_id=("i01", "i02"), value=(1.0, 2.0), time=(5, 1)),
    ]
    tasks = Intake(model).tasks(users)
    assert tasks.support.lengths.tolist() == [1, 0, 2]
    assert tasks.support.item.tolist() == [3, 2, 1]  # the earlier one first
    assert tasks.profile["age"].to_pylist() == [30.0, None, None]


def test_implicit_feedback_needs_no_values(implicit_model: Model) -> None:
    user = GivenUser(item_id=("i03", "i04"), value=(None, 77.0), time=(None, None))
    assert Intake(implicit_model).check(user) == []
    assert Intake(implicit_model).tasks([user]).support.value.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ({"agge": 3.0}, "profile.agge: .*Did you mean 'age'"),
        ({"zzz": 3.0}, "profile.zzz: the model knows no such attribute. Known: "),
        ({"age": "old"}, "profile.age: is 'old'; it must be a number"),
        ({"group": 3.0}, "profile.group: is 3.0; it must be text"),
    ],
)
def test_attributes_must_be_known_and_of_their_kind(
    model: Model, profile: dict[str, str | float], said: str
) -> None:
    with pytest.raises(FieldError, match=said):
        Intake(model).check(GivenUser(profile=profile))
