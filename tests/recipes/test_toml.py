import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st

from recmeta.config import to_dict
from recmeta.recipes import RECIPES
from recmeta.steps.parts.toml import to_toml

NAMES = st.text("abcXYZ_-012", min_size=1, max_size=6)
SCALARS = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
VALUES = (
    SCALARS
    | st.lists(SCALARS, max_size=3)
    | st.lists(st.dictionaries(NAMES, SCALARS, max_size=2), max_size=2)
)


@settings(max_examples=60)
@given(
    st.recursive(
        st.dictionaries(NAMES, VALUES, max_size=3),
        lambda tables: st.dictionaries(NAMES, VALUES | tables, max_size=3),
        max_leaves=5,
    )
)
def test_what_is_written_is_read(values: dict[str, object]) -> None:
    assert tomllib.loads(to_toml(values)) == values


def test_none_is_left_out() -> None:
    assert tomllib.loads(to_toml({"a": None, "b": {"c": None, "d": 1}})) == {"b": {"d": 1}}


def test_every_recipe_can_be_written() -> None:
    for recipe in RECIPES.values():
        assert "train" in tomllib.loads(to_toml(to_dict(recipe())))
