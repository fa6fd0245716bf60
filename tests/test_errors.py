"""Secrets leave no trace in a text, the rest of which stays; causes are told from bugs."""

import string
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recmeta.errors import UserError
from recmeta.errors.causes import cause_of, explained, noted
from recmeta.errors.secrets import MASK, masked, masked_values, secrets_in

SECRETS = st.text(string.ascii_letters + string.digits + "-_~%", min_size=8, max_size=30).map(
    lambda text: f"Zq{text}9"
)
WORDS = st.text(string.ascii_lowercase + " ,.", max_size=20).map(lambda text: f"{text} ")
PLACES = st.sampled_from(
    [
        "postgresql://me:{}@host:5432/db?sslmode=require",
        "https://{}@mlflow.example/base",
        "redis://:{}@host:6379/0",
        "s3://key:{}@bucket/log.csv",
        "https://host/log.csv?part=1&X-Amz-Signature={}&x=2",
        "https://host/log.csv?sig={}#end",
        "https://host/log.csv?token={}",
        "AWS_SECRET_ACCESS_KEY={} next",
        "localhost:6379,password={},ssl=true",
        "{{'aws_secret_access_key': '{}', 'region': 'x'}}",
        "Authorization: Bearer {}",
    ]
)


@given(before=WORDS, place=PLACES, secret=SECRETS, after=WORDS)
def test_no_part_of_a_secret_stays_and_all_else_does(
    before: str, place: str, secret: str, after: str
) -> None:
    text = before + place.format(secret) + " " + after
    found = masked(text)
    assert secret not in found
    assert found.count(MASK) == 1
    start, _, end = found.partition(MASK)
    assert text.startswith(start)
    assert text.endswith(end)
    assert masked(found) == found
    assert any(secret in one for one in secrets_in(text))
    assert secret not in str(UserError(text))
    assert masked_values({"a": [text]}) == {"a": [found]}


@given(st.text())
def test_a_text_without_an_address_or_a_setting_stays(text: str) -> None:
    if not any(mark in text for mark in ("://", "=", ":")):
        assert masked(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/a@b is a path",
        "s3://bucket/ws?region=eu-central-1",
        "key=user_id, token_type is none",
        "write to me@example.org",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text


def test_values_of_secret_variables_are_masked_wherever_they_stand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    monkeypatch.setenv("RECMETA_API_KEYS", "shop:abcdef0123\napp:4567abcdef")
    found = masked("a library says wJalrXUtnFEMI, abcdef0123 and 4567abcdef")
    assert found == "a library says ***, *** and ***"


def caused(error: BaseException, by: BaseException) -> BaseException:
    error.__cause__ = by
    return error


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (OSError(28, "No space left on device", "/x"), "disk full"),
        (RuntimeError("External: No space left on device (os error 28)"), "disk full"),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), "disk full"),
        (
            caused(RuntimeError("wrapped"), OSError(24, "Too many files")),
            "too many open files",
        ),
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of GPU memory"),
        (ImportError("x.so: failed to map segment from shared object"), "out of memory"),
        (RuntimeError("(sqlite3.OperationalError) database is locked"), "locked database"),
        (OSError("AWS Error NO_SUCH_BUCKET during HeadBucket"), "missing bucket"),
        (OSError("AWS Error UNKNOWN (HTTP status 500) during HeadObject"), "server fails"),
        (OSError("AWS Error ACCESS_DENIED during PutObject"), "credentials refused"),
        (ConnectionResetError(104, "Connection reset by peer"), "server out of reach"),
        (ExceptionGroup("several", [TimeoutError("late")]), "server out of reach"),
        (RecursionError("maximum recursion depth exceeded"), None),
        (ValueError("inner"), None),
        (KeyError("no space left on device"), None),
        (AssertionError("out of memory"), None),
    ],
)
def test_a_cause_is_told_from_a_bug(error: BaseException, name: str | None) -> None:
    found = cause_of(error)
    assert (None if found is None else found.name) == name


def test_a_bug_while_an_error_is_dealt_with_stays_a_bug() -> None:
    with pytest.raises(TypeError) as error:  # noqa: PT012
        try:
            raise ConnectionError("away")
        except ConnectionError:
            len(None)  # type: ignore[arg-type]
    assert explained(error.value) is None


def test_a_note_says_what_to_do() -> None:
    with pytest.raises(OSError, match="No space") as error, noted():
        raise OSError(28, "No space left on device")
    assert "free some space" in "".join(traceback.format_exception(error.value))
