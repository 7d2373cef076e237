"""Records that know the file they are from, for messages and for the origin of scores.

The functions of this room take any iterable of records. Records without a file have a default name.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from medground import published
from medground.errors import BadRecord, MedgroundError

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


def stated(record: Any, key: str) -> Any:
    """Return the value of a field of a record, or of a further key; None without either."""
    return getattr(record, key, None) or record.extra.get(key)


def of_split(records: Sequence[T], split: str | None, source: str, unit: str) -> list[T]:
    """Return the records of the split, all of them for None.

    Raises MedgroundError if there are others only; `source` and `unit` are for its message.
    """
    found = [each for each in records if split is None or stated(each, "split") == split]
    if records and not found:
        there = published.splits_shown({stated(each, "split") for each in records})
        raise MedgroundError(f"{source}: split: no {unit} is of {split}; it has {there or 'no splits'}")
    return found


def outside(records: Sequence[T], split: str | None) -> list[T]:
    """Return the records of other splits, none for None."""
    return [each for each in records if split is not None and stated(each, "split") != split]


def rules(scored: Iterable[Any], split: str | None) -> dict[str, Any]:
    """Return the split and the rule that made it, as scores state them."""
    names = sorted({str(name) for each in scored if (name := stated(each, "split_by"))})
    return ({"split": split} if split else {}) | ({"split_by": "; ".join(names)} if names else {})
