"""Single users as they arrive, before they are batched: each is checked alone, and errors are
reported to the sender.

`tasks_for_new_users` drops and counts unusable rows of a file of many users. A test holds the two
to the same rules.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa

from recmeta import schema
from recmeta.errors import MOST_LISTED, FieldError, did_you_mean, listed
from recmeta.metalearn.model import Model
from recmeta.metalearn.tensors.encoding import Field
from recmeta.serving.new_user_tasks import tasks_of_rows
from recmeta.tasks.task_set import Tasks

Value = str | float | Sequence[str] | None
"""The value of an attribute: text for categories, a number, or a list of texts for multi-valued
ones."""
_ARROW = {"categorical": pa.string(), "numeric": pa.float64(), "multi": pa.list_(pa.string())}


@dataclasses.dataclass(frozen=True, kw_only=True)
class GivenUser:
    """The known interactions and profile of one user; the tuples are aligned."""

    item_id: tuple[str, ...] = ()
    value: tuple[float | None, ...] = ()
    """None if the model learned from implicit feedback."""
    time: tuple[int | None, ...] = ()
    """Microseconds since 1970; None for the earliest."""
    profile: Mapping[str, Value] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Remark:
    """An interaction that does not count, although sending it is not a mistake."""

    kind: Literal["unknown_item", "duplicate_item"]
    place: int
    """The position of the interaction, from 0."""
    item_id: str


class Intake:
    """Checks users for one model, and turns them into tasks. One object serves many calls."""

    def __init__(self, model: Model) -> None:
        self.model = model
        ids = model.catalogue.items.item_id.to_pylist()
        self.number_of: dict[str, int] = dict(zip(ids, range(len(ids)), strict=True))
        """Each item's number, by id."""
        self.fields: dict[str, Field] = {f.name: f for f in model.encoder.user_fields}
        """Attributes that the model reads, by name."""

    def check(self, user: GivenUser) -> list[Remark]:
        """Return the interactions of a user that will not count.

        Raises:
            FieldError: for a value that is missing or out of the model's range, an attribute that
                the model does not know, or one of another kind.
        """
        if self.model.objective == "rating":
            for place, value in enumerate(user.value):
                self._check_value(place, value)
        for name, given in user.profile.items():
            self._check_attribute(name, given)
        remarks = []
        last: dict[str, int] = {}
        for place in _in_order(user.time):
            item = user.item_id[place].strip()
            if item not in self.number_of:
                remarks.append(Remark(kind="unknown_item", place=place, item_id=item))
            elif item in last:
                remarks.append(Remark(kind="duplicate_item", place=last[item], item_id=item))
            last[item] = place
        return sorted(remarks, key=lambda remark: remark.place)

    def tasks(self, users: Sequence[GivenUser]) -> Tasks:
        """Return a task per user, in order."""
        rows = [
            (place, self.number_of.get(item.strip(), -1), schema.ALWAYS if time is None else time)
            for place, user in enumerate(users)
            for item, time in zip(user.item_id, user.time, strict=True)
        ]
        user_N, item_N, time_N = np.array(rows, np.int64).reshape(-1, 3).T
        value_N = None
        if self.model.objective == "rating":
            value_N = np.array([value for user in users for value in user.value], np.float32)
        ids = [f"{number:09d}" for number in range(len(users))]
        profile = {schema.USER_ID: pa.array(ids, pa.string())} | {
            name: pa.array([user.profile.get(name) for user in users], _ARROW[field.kind])
            for name, field in self.fields.items()
        }
        return tasks_of_rows(self.model, pa.table(profile), user_N, item_N, value_N, time_N)

    def _check_value(self, place: int, value: float | None) -> None:
        low, high = self.model.value_range
        said = f"it must be between {low:g} and {high:g}"
        if value is None:
            raise FieldError(f"interactions[{place}].value", f"is missing; {said}.")
        if not low <= value <= high:
            raise FieldError(f"interactions[{place}].value", f"is {value:g}; {said}.")

    def _check_attribute(self, name: str, given: Value) -> None:
        field = self.fields.get(name)
        if field is None:
            raise FieldError(f"profile.{name}", unknown_attribute([name], list(self.fields)))
        wanted, fits = {
            "categorical": ("text", isinstance(given, str)),
            "numeric": ("a number", isinstance(given, int | float) and given is not True),
            "multi": (
                "a list of texts",
                isinstance(given, Sequence) and not isinstance(given, str),
            ),
        }[field.kind]
        if given is not None and not fits:
            raise FieldError(f"profile.{name}", f"is {given!r:.60}; it must be {wanted}.")


def unknown_attribute(names: Sequence[str], known: list[str]) -> str:
    """Return a message about attributes of a profile that a model does not read."""
    hints = "".join(did_you_mean(name, known) for name in names[:MOST_LISTED])
    return f"the model knows no such attribute.{hints} Known: {listed(known)}."


def _in_order(times: Sequence[int | None]) -> list[int]:
    """Return the positions by time; rows without a time come first, and equal ones keep their
    order."""
    return sorted(range(len(times)), key=lambda p: (times[p] is not None, times[p] or 0))
