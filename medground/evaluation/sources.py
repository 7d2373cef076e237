"""Records that know the file they are from, for messages and for the origin of scores.

The functions of this room take any iterable of records. Records without a file have a default name.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from medground.errors import BadRecord

T = TypeVar("T")


class Records(list[T]):
    """Records of a file: its name, and the first 12 hexadecimal digits of its SHA-256."""

    def __init__(self, records: Iterable[T], name: str, digest: str):
        super().__init__(records)
        self.name, self.digest = name, digest


def name_of(records: Any, default: str) -> str:
    """Return the name of the records' file, or the default if they are from no file."""
    return str(getattr(records, "name", default))


def origin_of(**inputs: Any) -> dict[str, str]:
    """Return the hash of each input that is from a file, in the order of the inputs."""
    digests = {name: getattr(records, "digest", None) for name, records in inputs.items()}
    return {name: f"sha256:{digest}" for name, digest in digests.items() if digest}


def checked(records: Iterable[T], default: str, check: Callable[[T], None]) -> list[T]:
    """Return the records as a list. Raises BadRecord with the place of the first that `check` refuses."""
    kept: list[T] = []
    for number, record in enumerate(records):
        try:
            check(record)
        except BadRecord as bad:
            bad.place = f"{name_of(records, default)}[{number}]: "
            raise
        kept.append(record)
    return kept
