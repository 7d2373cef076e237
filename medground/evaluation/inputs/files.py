"""Records of JSON lines files, with the name and the hash of their file."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeVar

from medground import jsonl, limits
from medground.evaluation.sources import Records

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

    def __iter__(self) -> Iterator[bytes]:
        for line in limits.lines(self.stream, self.name):
            self.sha256.update(line)
            yield line


def read(
    stream: BinaryIO, kind: type[T], bad_lines: jsonl.BadLines, check: Callable[[T], None]
) -> Records[T]:
    """Return the records of a file. A line for which `check` raises BadRecord is a bad line."""
    hashed: Any = Hashed(stream)
    records = list(jsonl.read(hashed, kind, bad_lines, check))
    return Records(records, hashed.name, hashed.digest)
