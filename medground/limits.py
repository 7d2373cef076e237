"""Limits on the sizes of input, so that one file cannot fill the memory. docs/security.md has them, too.

| limit | applies to |
|---|---|
| `MAX_PIXELS` | one image, mask or COCO size; checked in the header before anything is decoded |
| `MAX_UNPACKED` | bytes of one gzip file, zip member, npz array, deflated DICOM file, or file read at once |
| `MAX_LINE` | bytes of one line or row, and of one report in a text file or on stdin |

MEDGROUND_LIMIT_FACTOR multiplies all of them.
"""

import io
import math
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from medground.errors import MedgroundError

FACTOR = "MEDGROUND_LIMIT_FACTOR"


def factor() -> float:
    """Return the number in MEDGROUND_LIMIT_FACTOR, 1 without it; raise MedgroundError if it is no factor."""
    text = os.environ.get(FACTOR) or "1"
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1000:
        raise MedgroundError(f"{FACTOR}: expected a number above 0, at most 1000")
    return value


def _times_factor(limit: int) -> int:
    """Return the limit times the factor; a command refuses a wrong factor when it starts."""
    try:
        return int(limit * factor())
    except MedgroundError:
        return limit


# The largest detectors give 5,000 x 4,000; PIL warns from 89 million pixels on, which this stays under.
MAX_PIXELS = _times_factor(80_000_000)
MAX_UNPACKED = _times_factor(1 << 30)
MAX_LINE = _times_factor(32 << 20)
CHUNK = 1 << 16
RAISE = f"set {FACTOR} to raise the limits"
TOO_LARGE = f"more than {MAX_PIXELS // 1_000_000} million pixels; is this a chest X-ray?"
TOO_LONG = f"unpacks to more than {MAX_UNPACKED >> 20} MiB; {RAISE}"


def check_size(place: object, width: int, height: int) -> None:
    """Raise MedgroundError for an image without pixels, or with more than `MAX_PIXELS`."""
    if width < 1 or height < 1:
        raise MedgroundError(f"{place}: an image without pixels")
    if width * height > MAX_PIXELS:
        raise MedgroundError(f"{place}: {TOO_LARGE}")


def check_unpacked(place: object, size: int) -> None:
    """Raise MedgroundError if `size` bytes are more than `MAX_UNPACKED`."""
    if size > MAX_UNPACKED:
        raise MedgroundError(f"{place}: {TOO_LONG}")


def check_file(place: object, size: int) -> None:
    """Raise MedgroundError for a file of more than `MAX_UNPACKED` bytes, which would be read at once."""
    if size > MAX_UNPACKED:
        raise MedgroundError(f"{place}: more than {_mib(MAX_UNPACKED)}; {RAISE}")


def check_deflated(place: object, stream: BinaryIO) -> None:
    """Raise MedgroundError if the raw deflated rest of a stream unpacks to more than `MAX_UNPACKED`.

    Nothing of it is kept: memory stays flat. Raises zlib.error for damaged data.
    """
    size = 0
    for part in _inflated(stream):
        size += len(part)
        check_unpacked(place, size)


@dataclass
class LongLine:
    """A line of more than `MAX_LINE` bytes: its parts, read once and as they are needed."""

    parts: Iterator[bytes]


def lines(stream: Iterable[bytes], place: str) -> Iterator[bytes]:
    """Yield the lines of a stream; raise MedgroundError for one of more than `MAX_LINE` bytes.

    A longer line of a file is never in memory as a whole.
    """
    for number, line in enumerate(lines_or_long(stream), start=1):
        if isinstance(line, LongLine):
            raise MedgroundError(f"{place}:{number}: {long_line()}")
        yield line


def lines_or_long(stream: Iterable[bytes | LongLine]) -> Iterator[bytes | LongLine]:
    """Yield the lines of a stream, longer ones as a LongLine, which ends when the next line is taken."""
    readline = getattr(stream, "readline", None)
    for line in stream if readline is None else iter(partial(readline, MAX_LINE + 1), b""):
        if isinstance(line, LongLine) or len(line) <= MAX_LINE:
            yield line
            continue
        long = LongLine(_parts(line, readline))
        yield long
        deque(long.parts, maxlen=0)


def long_line() -> str:
    """Return the problem of a line of more than `MAX_LINE` bytes."""
    return f"a line of more than {_mib(MAX_LINE)}; {RAISE}"


def _parts(part: bytes, readline: Callable[[int], bytes] | None) -> Iterator[bytes]:
    while part:
        yield part
        part = b"" if readline is None or part.endswith(b"\n") else readline(MAX_LINE + 1)


def joined(stream: Iterable[bytes | LongLine], place: str) -> bytes:
    """Return all lines of a stream as one; raise MedgroundError for more than `MAX_UNPACKED` bytes."""
    parts, size = [], 0
    for number, part in enumerate(stream, start=1):
        if isinstance(part, LongLine):
            raise MedgroundError(f"{place}:{number}: {long_line()}")
        parts.append(part)
        size += len(part)
        if size > MAX_UNPACKED:
            raise MedgroundError(f"{place}: more than {_mib(MAX_UNPACKED)}; {RAISE}")
    return b"".join(parts)


def whole(stream: BinaryIO, place: object, most: int | None = None) -> bytes:
    """Return the rest of a stream; raise MedgroundError if it is more than `most` bytes (`MAX_UNPACKED`)."""
    most = MAX_UNPACKED if most is None else most
    content = stream.read(most + 1)
    if len(content) > most:
        raise MedgroundError(f"{place}: more than {_mib(most)}; {RAISE}")
    return content


class Bounded(io.RawIOBase):
    """An unpacked stream that raises MedgroundError after `MAX_UNPACKED` bytes."""

    def __init__(self, stream: BinaryIO, name: str):
        self.name = name
        self._stream, self._left = stream, MAX_UNPACKED

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into the buffer; return the number of bytes, 0 at the end."""
        part = self._stream.read(len(buffer))
        self._left -= len(part)
        if self._left < 0:
            raise MedgroundError(f"{self.name}: {TOO_LONG}")
        buffer[: len(part)] = part
        return len(part)


def _mib(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size} bytes"


def _inflated(stream: BinaryIO) -> Iterator[bytes]:
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    while packed := inflate.unconsumed_tail or stream.read(CHUNK):
        yield inflate.decompress(packed, CHUNK)
        if inflate.eof:
            return
