"""JSON that can be read in two ways is not read."""

import pytest

from recmeta import strict_json
from recmeta.errors import UserError
from recmeta.workspace import MemoryFolder

REFUSED = [
    b'{"a": 1, "a": 1}',
    b'[{"b": {"\\u0061": 1, "a": 2}}]',
    b"NaN",
    b"[-Infinity]",
    b'"\\ud800"',
    b"[" * 100_000,
    b"[" * 100_000 + b"]" * 100_000,
    b"1" * 5_000,
    '"\u00e9"'.encode("latin-1"),
    '{"a": 1}'.encode("utf-16"),
    b"\xef\xbb\xbf{}",
    b"",
    b"{} {}",
    b"{'a': 1}",
    b'"a\nb"',
]


@pytest.mark.parametrize("content", REFUSED)
def test_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        strict_json.loads(content)
    with pytest.raises(UserError, match=r"model\.json is broken"):
        MemoryFolder({"/model.json": content}).read_json("model.json")


def test_what_json_may_say_is_read() -> None:
    text = '{"a": [1, -2.5e3, null, true], "": {"a": "\\ud83d\\ude42 \\\\u0061"}}'
    assert strict_json.loads(text) == {"a": [1, -2500.0, None, True], "": {"a": "🙂 \\u0061"}}
