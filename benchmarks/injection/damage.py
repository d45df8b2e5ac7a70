"""Ways to damage the text of a record."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

DEEP = 100_000
NEST = "nested too deeply"  # stands for a list that `json` cannot write
WRONG: list[Any] = [
    None, True, 3, -1, -1.5, 0.5, 1e308, -1e308, 10**30, 10**400, math.nan, math.inf, "", "x", "nan", "\ud800",
    "\x1b[31m", "<b>|`", "../../x", [], {}, [None], [{}], [[]], {"": None}, [0, 10, 30], [math.nan] * 4, "x" * 100_000,
    NEST,
]  # fmt: skip

Path = tuple[Any, ...]


def damaged(text: str, draws: random.Random) -> bytes:
    """Damage the text of a JSON object in one random way."""
    return draws.choice(WAYS)(text, draws)


def flip(text: str, draws: random.Random) -> bytes:
    """Flip up to three bits."""
    data = bytearray(text.encode())
    for _ in range(draws.randint(1, 3)):
        data[draws.randrange(len(data))] ^= 1 << draws.randrange(8)
    return bytes(data)


def truncate(text: str, draws: random.Random) -> bytes:
    return text.encode()[: draws.randrange(len(text))]


def cut(text: str, draws: random.Random) -> bytes:
    """Remove some characters, or write them twice."""
    start, length = draws.randrange(len(text)), draws.randint(1, 200)
    return (text[:start] + text[start : start + length] * draws.choice([0, 2]) + text[start + length :]).encode()


def replace(text: str, draws: random.Random) -> bytes:
    """Put a wrong value in a random place."""
    record = json.loads(text)
    _put(record, draws.choice(list(_places(record))), draws.choice(WRONG))
    return _written(record)


def nudge(text: str, draws: random.Random) -> bytes:
    """Change one number, by a unit in its last place or by much."""
    record = json.loads(text)
    numbers = [path for path in _places(record) if type(_at(record, path)) in (int, float)]
    path = draws.choice(numbers)
    value = _at(record, path)
    near = value + 1 if type(value) is int else math.nextafter(value, 2.0)
    _put(record, path, draws.choice([near, -value - 1, value * 10 + 1, 0 if value else 1]))
    return _written(record)


def swap(text: str, draws: random.Random) -> bytes:
    """Let two places change their values."""
    record = json.loads(text)
    places = list(_places(record))
    one, other = next((a, b) for a, b in iter(lambda: draws.sample(places, 2), None) if not _inside(a, b))
    first, second = _at(record, one), _at(record, other)
    _put(record, one, second)
    _put(record, other, first)
    return _written(record)


def drop(text: str, draws: random.Random) -> bytes:
    """Take a place away."""
    record = json.loads(text)
    path = draws.choice(list(_places(record)))
    del _at(record, path[:-1])[path[-1]]
    return _written(record)


def junk(text: str, draws: random.Random) -> bytes:
    """Write something else altogether."""
    return draws.choice(
        [b"", b"\0" * 5000, b"[]", b"null", b"{}", b"\xff\xfe", b"[" * DEEP, b'"\\ud800"', text.encode() * 2]
    )


WAYS: tuple[Callable[[str, random.Random], bytes], ...] = (
    flip,
    truncate,
    cut,
    replace,
    replace,
    nudge,
    swap,
    drop,
    junk,
)


def _places(value: Any, above: Path = ()) -> Iterator[Path]:
    """List the paths of all values inside a value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield (*above, key)
        yield from _places(each, (*above, key))


def _inside(one: Path, other: Path) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def _put(value: Any, path: Path, new: Any) -> None:
    _at(value, path[:-1])[path[-1]] = new


def _written(record: Any) -> bytes:
    text = json.dumps(record).replace(json.dumps(NEST), "[" * DEEP + "]" * DEEP)
    return text.encode("utf-8", errors="surrogatepass")
