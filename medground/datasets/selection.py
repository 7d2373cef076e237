"""Selection of records by split."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from medground import published
from medground.errors import MedgroundError

log = logging.getLogger(__name__)
Record = TypeVar("Record")


def only_split(records: Iterable[Record], split: str | None) -> Iterator[Record]:
    """Yield the records of one split, without images of gold patients (`avoid`); all of them for None.

    Raises MedgroundError with the names of the existing splits if no record is in this one. Records of gold
    patients are counted in a warning.
    """
    if split is None:
        yield from records
        return
    seen: set[str] = set()
    avoided = 0
    for record in records:
        extra: dict[str, Any] = getattr(record, "extra", {})
        own = getattr(record, "split", None) or extra.get("split")
        seen.add(str(own))
        if own == split and extra.get("avoid"):
            avoided += 1
        elif own == split:
            yield record
    if seen and split not in seen:
        raise MedgroundError(f"no record is in split {split!r}; there are: {published.splits_shown(seen)}")
    if avoided:
        log.warning("split %r: %d images of gold patients are left out", split, avoided)
