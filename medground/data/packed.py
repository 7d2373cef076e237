"""Examples as bytes: hundreds of thousands of them in a thirteenth of the memory of their objects.

A row has the example's own values, then its queries. Names of regions with their synonyms, which every image
repeats, are numbers of a table. A box has 8 bytes if all numbers of its list are whole tenths of a pixel, as
in files of detect-anatomy, else 32. What is read is equal to what was packed.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import replace
from typing import Any, overload

import msgspec
import numpy as np

from medground.data.examples import Example, Query
from medground.records import Box, Existence

OPEN = 64  # examples that can be changed at a time: those of adjacent studies
MOST_TENTHS = (1 << 16) - 1
# of a list of queries: the texts of each, its number of boxes, all boxes, denials if there are any
Queries = tuple[list[int | list[str]], list[int], bytes, list[list[str]]]


class Head(msgspec.Struct, array_like=True, gc=False):
    """The values of an example without its queries."""

    image_id: str
    path: str
    width: int
    height: int
    subject_id: str | None
    study_id: str | None


class _Packed(Head, array_like=True, gc=False):
    terms: Queries
    sentences: Queries
    pairs: Queries
    report: list[str]
    findings: dict[str, Existence]
    tags: dict[str, Existence]


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Packed).decode
_head = msgspec.msgpack.Decoder(Head).decode


class Names:
    """The texts of queries that many images share, by number."""

    def __init__(self) -> None:
        self._texts: list[tuple[str, ...]] = []
        self._numbers: dict[tuple[str, ...], int] = {}

    def pack(self, example: Example) -> bytes:
        """Return the example as bytes."""
        lists = (
            _queries([self._number(each.texts) for each in example.terms], example.terms),
            _queries([each.texts for each in example.sentences], example.sentences),
            _queries([each.texts for each in example.pairs], example.pairs),
        )
        head = (example.image_id, example.path, example.width, example.height)
        own = (example.report, example.findings, example.tags)
        return _pack((*head, example.subject_id, example.study_id, *lists, *own))

    def unpack(self, row: bytes) -> Example:
        """Return the example of `pack`."""
        held = _unpack(row)
        return Example(
            held.image_id,
            held.path,
            held.width,
            held.height,
            held.subject_id,
            self._read(*held.terms),
            self._read(*held.sentences),
            held.study_id,
            held.report,
            self._read(*held.pairs),
            held.findings,
            held.tags,
        )

    def _number(self, texts: tuple[str, ...]) -> int:
        number = self._numbers.setdefault(texts, len(self._texts))
        if number == len(self._texts):
            self._texts.append(texts)
        return number

    def _read(
        self, texts: list[int | list[str]], counts: list[int], boxes: bytes, denials: list[list[str]]
    ) -> list[Query]:
        rest = _boxes(boxes)
        found = [
            Query(
                self._texts[each] if isinstance(each, int) else tuple(each),
                tuple([next(rest) for _ in range(count)]),
            )
            for each, count in zip(texts, counts, strict=True)
        ]
        if not denials:
            return found
        return [replace(each, denials=tuple(own)) for each, own in zip(found, denials, strict=True)]


def _queries(texts: list[Any], queries: list[Query]) -> tuple[Any, ...]:
    counts = [len(each.boxes) for each in queries]
    denials = [each.denials for each in queries] if any(each.denials for each in queries) else []
    numbers = np.array([number for each in queries for box in each.boxes for number in box])
    packed = exact = numbers.tobytes()
    if not len(numbers) or (numbers.min() >= 0 and numbers.max() <= MOST_TENTHS / 10):
        tenths = np.rint(numbers * 10).astype(np.uint16)
        packed = tenths.tobytes() if (tenths / 10).tobytes() == exact else exact
    return texts, counts, b"%c%b" % (packed is exact, packed), denials


def _boxes(packed: bytes) -> Iterator[Box]:
    if packed[0]:
        numbers = np.frombuffer(packed, np.float64, offset=1)
    else:
        numbers = np.frombuffer(packed, np.uint16, offset=1) / 10
    values = iter(numbers.tolist())
    return zip(values, values, values, values, strict=True)


class Examples(Sequence[Example]):
    """Packed examples in order. An item is made when it is read; changes of it are lost."""

    def __init__(self, rows: list[bytes], names: Names):
        self._rows, self._names = rows, names

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> "Examples": ...
    def __getitem__(self, place: int | slice) -> "Example | Examples":
        """Return the example at a place, or the examples of a slice."""
        if isinstance(place, slice):
            return Examples(self._rows[place], self._names)
        return self._names.unpack(self._rows[place])

    def __iter__(self) -> Iterator[Example]:
        return map(self._names.unpack, self._rows)

    def heads(self) -> Iterator[Head]:
        """Yield the values of each example without its queries."""
        return map(_head, self._rows)

    def where(self, test: Callable[[Example], bool]) -> "Examples":
        """Return the examples that pass the test, in order."""
        return Examples([row for row in self._rows if test(self._names.unpack(row))], self._names)


def where(examples: Sequence[Example], test: Callable[[Example], bool]) -> Sequence[Example]:
    """Return the examples that pass the test, in order; packed ones stay packed."""
    if isinstance(examples, Examples):
        return examples.where(test)
    return [each for each in examples if test(each)]


def heads(examples: Iterable[Example]) -> Iterable[Example | Head]:
    """Return the examples, or what is known of packed ones without their queries."""
    return examples.heads() if isinstance(examples, Examples) else examples


class ByImage(MutableMapping[str, Example]):
    """Examples by image, packed except the last ones that were read: only those may be changed."""

    def __init__(self) -> None:
        self._rows: dict[str, bytes] = {}
        self._open: OrderedDict[str, Example] = OrderedDict()
        self._names = Names()

    def __getitem__(self, image_id: str) -> Example:
        if image_id not in self._open:
            self[image_id] = self._names.unpack(self._rows[image_id])
        return self._open[image_id]

    def __setitem__(self, image_id: str, example: Example) -> None:
        self._rows.setdefault(image_id, b"")
        self._open[image_id] = example
        if len(self._open) > OPEN:
            self._close()

    def __delitem__(self, image_id: str) -> None:
        del self._rows[image_id]
        self._open.pop(image_id, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def heads(self) -> Iterator[Example | Head]:
        """Yield what is known of each example without its queries."""
        return (self._open.get(image_id) or _head(row) for image_id, row in self._rows.items())

    def _close(self) -> None:
        image_id, example = self._open.popitem(last=False)
        self._rows[image_id] = self._names.pack(example)

    def packed(self) -> Examples:
        """Return all examples, and forget them here."""
        while self._open:
            self._close()
        rows, self._rows = list(self._rows.values()), {}
        return Examples(rows, self._names)
