"""Raw attributes become codes and numbers; what was never seen becomes unknown."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmeta.errors import UserError
from recmeta.metalearn.tensors.encoding import Encoder, FeatureConfig

USERS = pa.table(
    {
        "user_id": ["u1", "u2", "u3", "u4", "u5", "u6"],
        "job": ["nurse", "cook", "nurse", None, "nurse", "cook"],
        "age": [20.0, 40.0, None, 30.0, 30.0, 30.0],
        "hobbies": [["chess"], ["go", "chess"], None, [], [None], ["chess"]],
        "motto": ["a", "b", "c", "d", "e", "f"],
    }
)
ITEMS = pa.table({"genre": ["drama", "drama", "comedy", "drama"], "year": [1990, 2000, 2010, None]})
ITEM_ID = pa.array(["i1", "i2", "i3", "i3"])
VALUES = np.array([1.0, 3.0, 5.0], np.float32)


def fitted(**changes: object) -> Encoder:
    return Encoder.fit(USERS, ITEM_ID, ITEMS, VALUES, FeatureConfig(**changes))


def users(**columns: object) -> pa.Table:
    return pa.table({"user_id": ["x"], **{name: pa.array([v]) for name, v in columns.items()}})


def test_kinds_follow_from_the_columns() -> None:
    encoder = fitted()
    assert {f.name: f.kind for f in encoder.user_fields} == {
        "job": "categorical",
        "age": "numeric",
        "hobbies": "multi",
    }
    assert {f.name: f.kind for f in encoder.item_fields} == {
        "genre": "categorical",
        "year": "numeric",
        "item_id": "categorical",
    }
    assert encoder.value_mean == 3.0
    assert encoder.value_scale == pytest.approx(np.std(VALUES))


def test_free_text_is_left_out_unless_asked_for() -> None:
    assert "motto" not in {f.name for f in fitted().user_fields}
    assert [f.name for f in fitted(user_features=("motto",)).user_fields] == ["motto"]


def test_known_values_have_codes_and_others_are_unknown() -> None:
    encoded = fitted().encode_users(USERS)
    assert encoded["job"].tolist() == [2, 1, 2, 0, 2, 1]  # cook, nurse: sorted by name
    assert encoded["hobbies"].tolist() == [[1, 0], [2, 1], [0, 0], [0, 0], [0, 0], [1, 0]]
    assert fitted().encode_users(users(job="pilot"))["job"].tolist() == [0]


def test_numbers_are_standardised_and_missing_ones_are_average() -> None:
    spread = np.std([20.0, 40.0, 30.0, 30.0, 30.0])
    expected = [-10 / spread, 10 / spread, 0.0, 0.0, 0.0, 0.0]
    np.testing.assert_allclose(fitted().encode_users(USERS)["age"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("age", "expected"), [(float("nan"), 0.0), (1e9, 5.0), (float("-inf"), -5.0)]
)
def test_numbers_off_the_scale_are_tamed(age: float, expected: float) -> None:
    assert fitted().encode_users(users(age=age))["age"].tolist() == [expected]


def test_absent_attributes_are_unknown() -> None:
    encoded = fitted().encode_users(pa.table({"user_id": ["x", "y"]}))
    assert encoded["job"].tolist() == [0, 0]
    assert encoded["age"].tolist() == [0.0, 0.0]
    assert encoded["hobbies"].tolist() == [[0, 0], [0, 0]]


def test_lists_longer_than_the_field_are_cut_and_unknown_values_leave_no_gap_in_rows() -> None:
    encoder = fitted()
    table = pa.table({"user_id": ["x", "y"], "hobbies": [["?", "go"], ["go", "chess", "go"]]})
    assert encoder.encode_users(table)["hobbies"].tolist() == [[0, 2], [2, 1]]


def test_a_single_value_where_lists_were_is_a_list_of_one() -> None:
    assert fitted().encode_users(users(hobbies="go"))["hobbies"].tolist() == [[2, 0]]


def test_sliced_and_chunked_tables_encode_alike() -> None:
    encoder = fitted()
    whole = encoder.encode_users(USERS)
    chunked = encoder.encode_users(pa.concat_tables([USERS.slice(0, 2), USERS.slice(2)]))
    tail = encoder.encode_users(USERS.slice(1, 2))
    for name, codes in whole.items():
        assert codes.tolist() == chunked[name].tolist()
        assert codes[1:3].tolist() == tail[name].tolist()


def test_only_the_most_frequent_values_are_kept() -> None:
    encoder = fitted(max_categories=1)
    job = next(f for f in encoder.user_fields if f.name == "job")
    assert job.values == ("nurse",)
    assert encoder.encode_users(USERS)["job"].tolist() == [1, 0, 1, 0, 1, 0]


def test_a_feature_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"user_features names 'jobb'.*Did you mean 'job'"):
        fitted(user_features=("jobb",))


def test_an_unmet_item_is_known_by_its_content() -> None:
    encoded = fitted().encode_items(
        pa.array(["new"]), pa.table({"genre": ["comedy"], "year": [2000]})
    )
    assert encoded["item_id"].tolist() == [0]
    assert encoded["genre"].tolist() == [1]


def test_constant_values_and_implicit_feedback_have_scale_one() -> None:
    constant = Encoder.fit(USERS, ITEM_ID, ITEMS, np.ones(3, np.float32), FeatureConfig())
    implicit = Encoder.fit(USERS, ITEM_ID, ITEMS, None, FeatureConfig())
    assert (constant.value_mean, constant.value_scale) == (1.0, 1.0)
    assert (implicit.value_mean, implicit.value_scale) == (0.0, 1.0)


words = st.none() | st.text(max_size=4)
numbers = st.none() | st.floats(-1e100, 1e100) | st.sampled_from([math.nan, math.inf, -math.inf])


@given(
    data=st.lists(st.tuples(words, numbers, st.none() | st.lists(words, max_size=4)), min_size=1),
    unseen=st.lists(st.tuples(words, numbers, st.none() | st.lists(words, max_size=6))),
)
def test_encoding_is_total_and_survives_storage(data: list, unseen: list) -> None:
    def table(rows: list) -> pa.Table:
        word, number, many = zip(*rows, strict=True) if rows else ((), (), ())
        return pa.table(
            {
                "user_id": [f"u{n}" for n in range(len(rows))],
                "word": pa.array(word, pa.string()),
                "number": pa.array(number, pa.float64()),
                "many": pa.array(many, pa.list_(pa.string())),
            }
        )

    config = FeatureConfig(user_features=("word", "number", "many"), max_list_length=3)
    encoder = Encoder.fit(table(data), ITEM_ID, ITEMS, VALUES, config)
    assert Encoder.from_bytes(encoder.to_bytes()) == encoder
    encoded = encoder.encode_users(table(unseen))
    word, _, many = encoder.user_fields
    seen_words = {w for w, _, _ in data if w is not None}
    assert set(word.values) == seen_words
    for row, (text, _, values) in enumerate(unseen):
        code = int(encoded["word"][row])
        assert (word.values[code - 1] if code else None) == (text if text in seen_words else None)
        read = [many.values[c - 1] for c in encoded["many"][row].tolist() if c]
        first = (values or [])[: many.width]
        assert read == [v for v in first if v in many.values]
    assert encoded["number"].isfinite().all()
    assert encoded["number"].abs().max() <= 5 if unseen else True
    assert encoded["many"].shape == (len(unseen), many.width)
