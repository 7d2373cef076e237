"""Records of JSON lines files, with the name and the hash of their file."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeVar

from medground import jsonl, limits
from medground.evaluation.sources import Records
from medground.limits import LongLine

T = TypeVar("T")


@dataclass
class Hashed:
    """A stream of lines that computes the SHA-256 of the lines read from it."""

    stream: BinaryIO
    sha256: Any = field(default_factory=hashlib.sha256)

    @property
    def name(self) -> str:
        """The stream's name in messages."""
        return jsonl.name_of(self.stream)

    @property
    def digest(self) -> str:
        """The first 12 hexadecimal digits, of all lines once they have been read."""
        return str(self.sha256.hexdigest())[:12]

    def __iter__(self) -> Iterator[bytes | LongLine]:
        for line in limits.lines_or_long(self.stream):
            if isinstance(line, LongLine):
                parts = self._hashed(line.parts)
                yield LongLine(parts)
                deque(parts, maxlen=0)  # the digest is of all parts, also if nobody took them
            else:
                self.sha256.update(line)
                yield line

    def _hashed(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        for part in parts:
            self.sha256.update(part)
            yield part


def read(
    stream: BinaryIO, kind: type[T], bad_lines: jsonl.BadLines, check: Callable[[T], None]
) -> Records[T]:
    """Return the records of a file. A line for which `check` raises BadRecord is a bad line."""
    hashed: Any = Hashed(stream)
    records = list(jsonl.read(hashed, kind, bad_lines, check))
    return Records(records, hashed.name, hashed.digest)
