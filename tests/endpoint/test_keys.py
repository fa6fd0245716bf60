"""API keys and rates."""

from pathlib import Path

import pytest

from recmeta.endpoint.guard.keys import VARIABLE, ApiKeys, guard, read_keys
from recmeta.endpoint.guard.rate import RateLimit
from recmeta.errors import UserError

GOOD, OTHER = "a" * 16, "b" * 20


def test_a_key_is_known_by_its_name() -> None:
    keys = ApiKeys({"shop": GOOD, "app": OTHER})
    assert keys.name_of(GOOD) == "shop"
    assert keys.name_of(OTHER) == "app"
    for wrong in (None, "", GOOD[:-1], GOOD + "a", "\ud800" * 16):
        assert keys.name_of(wrong) is None
    assert GOOD not in repr(vars(keys))


def test_keys_come_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_keys(None) is None
    monkeypatch.setenv(VARIABLE, f"shop:{GOOD}, {OTHER}")
    found = read_keys(None)
    assert found is not None
    assert (found.name_of(GOOD), found.name_of(OTHER)) == ("shop", "key-2")
    file = tmp_path / "keys"
    file.write_text(f"# ours\n\nweb : {OTHER}\n")
    found = read_keys(file)
    assert found is not None
    assert (found.name_of(GOOD), found.name_of(OTHER)) == (None, "web")
    file.write_text(f"# old keys: web:{GOOD}, or whatever stood here before\n:{OTHER}\n")
    found = read_keys(file)
    assert found is not None
    commented = (GOOD, "or whatever stood here before", f"web:{GOOD}")
    assert [found.name_of(key) for key in commented] == [None] * 3
    assert found.name_of(OTHER) == "key-2"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shop:short", "5 characters"),
        (f"shop:{GOOD}\nshop:{OTHER}", "two API keys named 'shop'"),
        (f"shop :{GOOD}\nshop :{OTHER}", "two API keys named 'shop'"),
        ("# nothing\n", "no API key"),
    ],
)
def test_bad_keys_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(UserError, match=said):
        read_keys(tmp_path / "keys")
    with pytest.raises(UserError, match="cannot read"):
        read_keys(tmp_path / "absent")


def test_without_keys_only_this_machine_is_served() -> None:
    keys = ApiKeys({"shop": GOOD})
    assert guard(keys, no_auth=False, host="0.0.0.0") is keys
    assert guard(None, no_auth=True, host="127.0.0.1") is None
    with pytest.raises(UserError, match="there are no API keys"):
        guard(None, no_auth=False, host="127.0.0.1")
    with pytest.raises(UserError, match="leave one of the two out"):
        guard(keys, no_auth=True, host="0.0.0.0")


def test_a_bucket_fills_at_its_rate() -> None:
    now = 0.0
    limit = RateLimit(2.0, 3, clock=lambda: now)
    assert [limit.seconds_to_wait("a") for _ in range(4)] == [0, 0, 0, 0.5]
    assert limit.seconds_to_wait("b") == 0  # has its own
    now = 0.5
    assert limit.seconds_to_wait("a") == 0
    assert limit.seconds_to_wait("a") > 0
    now = 1e6
    assert [limit.seconds_to_wait("a") for _ in range(4)] == [0, 0, 0, 0.5]  # no more than full
