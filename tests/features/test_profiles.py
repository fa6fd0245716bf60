"""Attributes as known at a time, against looking them up one by one."""

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from recmeta import schema
from recmeta.features.attributes import catalogue, profiles_as_of

TIME = pl.Datetime("us", "UTC")
versions = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.none() | st.integers(0, 10),
        st.none() | st.integers(0, 99),
    ),
    max_size=12,
    unique_by=lambda v: v[:2],
)


def entities(key: str, rows: list[tuple[str, int | None, int | None]]) -> pl.LazyFrame:
    columns = [(key, pl.String), ("valid_from", pl.Int64), ("age", pl.Float64)]
    return (
        pl.DataFrame(rows, schema=columns, orient="row")
        .lazy()
        .with_columns(pl.col("valid_from").cast(TIME))
    )


@settings(deadline=None)
@given(
    versions,
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", "d"]), st.integers(-1, 12) | st.just(schema.END_OF_TIME)
        ),
        max_size=10,
    ),
)
def test_profiles_are_the_newest_known_at_the_cut(
    rows: list[tuple[str, int | None, int | None]], tasks: list[tuple[str, int]]
) -> None:
    frame = pl.DataFrame(
        tasks, schema=[("user_id", pl.String), ("cut_time", pl.Int64)], orient="row"
    )
    found = profiles_as_of(frame, entities("user_id", rows))
    assert found.columns == ["user_id", "age"]
    expected = []
    for user, cut in tasks:
        known = [(schema.ALWAYS if t is None else t, age) for u, t, age in rows if u == user]
        known = sorted((v for v in known if v[0] <= cut), key=lambda v: v[0])
        expected.append((user, known[-1][1] if known else None))
    assert found.rows() == expected


@settings(deadline=None)
@given(versions)
def test_the_catalogue_has_every_item_and_all_its_versions(
    rows: list[tuple[str, int | None, int | None]],
) -> None:
    item_id = pl.Series(["a", "b", "c", "d"])
    found = catalogue(item_id, entities("item_id", rows))
    assert found.item_id.to_pylist() == item_id.to_list()
    expected = [
        (number, schema.ALWAYS if time is None else time, age)
        for number, name in enumerate(item_id)
        for time, age in sorted(
            [(t, age) for i, t, age in rows if i == name] or [(None, None)],
            key=lambda v: schema.ALWAYS if v[0] is None else v[0],
        )
    ]
    assert (
        list(
            zip(
                found.item.tolist(),
                found.valid_from.tolist(),
                found.attributes["age"].to_pylist(),
                strict=True,
            )
        )
        == expected
    )
