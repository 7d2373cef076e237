"""Selection of records by split."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from medground import published

log = logging.getLogger(__name__)
Record = TypeVar("Record")


def only_split(records: Iterable[Record], split: str | None) -> Iterator[Record]:
    """Yield the records of one split, without images of gold patients (`avoid`); all of them for None.

    A split without records gives a warning with the names of the existing splits.
    """
    if split is None:
        yield from records
        return
    seen: set[str] = set()
    for record in records:
        extra: dict[str, Any] = getattr(record, "extra", {})
        own = getattr(record, "split", None) or extra.get("split")
        seen.add(str(own))
        if own == split and not extra.get("avoid"):
            yield record
    if seen and split not in seen:
        log.warning("no record is in split %r; there are: %s", split, published.splits_shown(seen))
