"""Mappings become dataclasses strictly, and come back."""

import dataclasses
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmeta.config import fingerprint, parse, to_dict
from recmeta.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    names: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    count: int
    kind: Literal["fast", "slow"] = "fast"
    inner: Inner = Inner()
    maybe: Inner | None = None
    span: tuple[float, float] = (0.0, 1.0)
    table: dict[str, int] = dataclasses.field(default_factory=dict)
    verbose: bool = False

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"count is {self.count}; it must not be negative.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Nested:
    outer: Outer


inners = st.builds(
    Inner,
    rate=st.floats(allow_nan=False, allow_infinity=False),
    names=st.none() | st.lists(st.text(max_size=3), max_size=3).map(tuple),
)


@given(
    st.builds(
        Outer,
        count=st.integers(0, 10),
        kind=st.sampled_from(["fast", "slow"]),
        inner=inners,
        maybe=st.none() | inners,
        span=st.tuples(st.floats(0, 1), st.floats(1, 2)),
        table=st.dictionaries(st.text(max_size=3), st.integers()),
        verbose=st.booleans(),
    )
)
def test_a_configuration_survives_json(config: Outer) -> None:
    assert parse(Outer, to_dict(config)) == config
    assert fingerprint(parse(Outer, to_dict(config))) == fingerprint(config)


def test_defaults_are_the_dataclass_own() -> None:
    assert parse(Outer, {"count": 1}) == Outer(count=1)


def test_whole_numbers_are_floats_where_floats_are_asked_for() -> None:
    rate = parse(Inner, {"rate": 1}).rate
    assert rate == 1.0
    assert isinstance(rate, float)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"count": 1, "knid": "fast"}, r"unknown key 'knid'\. Did you mean 'kind'\?"),
        ({}, "missing key 'count'"),
        ({"count": "1"}, "count is '1'; it must be of type int"),
        ({"count": 1.0}, r"count is 1\.0; it must be of type int"),
        ({"count": True}, "count is True; it must be of type int"),
        ({"count": 1, "verbose": 1}, "verbose is 1; it must be of type bool"),
        ({"count": 1, "kind": "fats"}, r"kind is 'fats'.*Did you mean 'fast'"),
        ({"count": 1, "inner": {"rat": 1.0}}, r"unknown key 'inner\.rat'.*Did you mean 'rate'"),
        ({"count": 1, "inner": {"rate": "x"}}, r"inner\.rate is 'x'"),
        ({"count": 1, "inner": 3}, "inner is 3; it must be a table"),
        ({"count": 1, "inner": {"names": "abc"}}, r"inner\.names is 'abc'; it must be a list"),
        ({"count": 1, "inner": {"names": ["a", 2]}}, r"inner\.names\[1\] is 2"),
        ({"count": 1, "span": [1.0]}, "span has 1 entries; it must have 2"),
        ({"count": 1, "table": [1]}, "table is .*; it must be a table"),
        ({"count": 1, "table": {"a": "b"}}, r"table\.a is 'b'"),
        ({"count": -1}, "count is -1; it must not be negative"),
    ],
)
def test_mistakes_are_named(data: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(Outer, data)


def test_mistakes_further_down_say_where() -> None:
    with pytest.raises(UserError, match="outer: count is -1"):
        parse(Nested, {"outer": {"count": -1}})


def test_fingerprints_tell_configurations_apart() -> None:
    one = Outer(count=1)
    assert fingerprint(one) == fingerprint(Outer(count=1))
    different = [
        fingerprint(part)
        for part in (one, Outer(count=2), Outer(count=1, kind="slow"), {"count": 1}, ["count", 1])
    ]
    assert len(set(different)) == len(different)
    assert fingerprint("a", "b") != fingerprint("b", "a") != fingerprint("ab")
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


def test_a_fingerprint_is_the_same_everywhere() -> None:
    assert fingerprint("build-tasks", {"seed": 0}) == "cc43ca427483e128"
