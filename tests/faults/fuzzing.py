"""Mutated files for parsers of what strangers write, and what their outcome may be."""

import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from recmeta.errors import UserError

SECONDS = 10
"""Within which anything so small is parsed."""
ODD: tuple[bytes, ...] = (
    *(bytes([byte]) for byte in (0, 7, 9, 10, 13, 27, 34, 39, 44, 61, 91, 92, 93, 123, 125, 127)),
    b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xf4\x90\x80\x80", b"\xff\xfe",
    "\u202e".encode(), "\u2028".encode(), "\u0301".encode(), "🙂".encode(), "İ".encode(),
    b"\\u0000", b"\\ud800", b"\\x41", b"\\", b'\\"', b'""', b"''", b'"""', b"'''",
    b"NaN", b"nan", b"inf", b"-inf", b"1e999", b"-0", b"0x10", b"1_000", b"9" * 40, b"9" * 5000,
    b"1e-400", b"true", b"null", b"None", b"{}", b"[]", b"[[", b"[" * 3000, b'{"a":' * 3000,
    b"a." * 3000, b"\r\n", b"\n\n", b"#", b"//", b"%", b"%Q", b"%s", b"%z", b"../", b"~nobody/x",
    b"file://", b"utf-16", b"zlib_codec", b"idna", b"undefined", b"(a+)+$", b"(", b"\\1",
    b"a{99999}", b":", b"::", b"1:0", b"nan:nan", b"package.module:THING", b"1979-05-27",
    b"07:32:00", b"__class__", b"{date}",
)  # fmt: skip
"""What parsers stumble over."""


def mutants(seeds: Sequence[bytes], rng: random.Random) -> Iterator[bytes]:
    """Yield variations of some files, for ever, of one change or of some."""
    tokens = [token for seed in seeds for token in seed.replace(b"=", b" ").split()] or [b"x"]
    while True:
        content = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
            _change(content, seeds, tokens, rng)
        yield bytes(content)


def _change(
    content: bytearray, seeds: Sequence[bytes], tokens: Sequence[bytes], rng: random.Random
) -> None:
    place = rng.randrange(len(content) + 1)
    end = min(len(content), place + rng.choice((1, 2, 4, 16, 64)))
    way = rng.randrange(7)
    if way == 0 and content:
        content[min(place, len(content) - 1)] ^= 1 << rng.randrange(8)
    elif way == 1:
        content[place:place] = rng.choice(ODD)
    elif way == 2:
        content[place:end] = rng.choice(ODD)
    elif way == 3:
        del content[place:end]
    elif way == 4:
        content[place:place] = content[place:end] * rng.choice((1, 2, 50))
    elif way == 5:
        content[place:end] = rng.choice(tokens)
    else:
        other = rng.choice(seeds)
        start = rng.randrange(len(other) + 1)
        content[place:] = other[start:]


def fault_of(parse: Callable[[bytes], object], content: bytes) -> str:
    """Return what is wrong with how a file is parsed; empty where it is parsed, or refused with a
    message."""

    def too_slow(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(SECONDS)
    started = time.monotonic()
    try:
        parse(content)
    except UserError as error:
        return "" if str(error).strip() else "an error without a message"
    except BaseException as error:
        return f"{type(error).__name__}: {error} after {time.monotonic() - started:.1f} s"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return ""
