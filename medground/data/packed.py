"""Examples as bytes: hundreds of thousands of them in a thirteenth of the memory of their objects.

A row has the example's own values, then its queries. Names of regions with their synonyms, which every image
repeats, are numbers of a table. A box has 8 bytes if all numbers of its list are whole tenths of a pixel, as
in files of detect-anatomy, else 32. What is read is equal to what was packed.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import replace
from typing import Any, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from medground.data import examples as unpacked
from medground.data.examples import Example, Query
from medground.records import Box, Existence

OPEN = 64  # examples that can be changed at a time: those of adjacent studies
MOST_TENTHS = (1 << 16) - 1
# of a list of queries: the texts of each, its number of boxes, all boxes, denials if there are any
Numbers = NDArray[np.float64]
Queries = tuple[list[int | list[str]], list[int], bytes, list[list[str]]]


class Head(msgspec.Struct, array_like=True, gc=False):
    """The values of an example without its queries."""

    image_id: str
    path: str
    width: int
    height: int
    subject_id: str | None
    study_id: str | None


NO_QUERIES: Queries = ([], [], b"\0", [])


class _Packed(Head, array_like=True, gc=False):
    """The terms are last, so that they can be added to a row."""

    sentences: Queries
    pairs: Queries
    report: list[str]
    findings: dict[str, Existence]
    tags: dict[str, Existence]
    terms: Queries = NO_QUERIES


pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(_Packed).decode
head_of = msgspec.msgpack.Decoder(Head).decode


class Names:
    """The texts of queries that many images share, by number."""

    def __init__(self) -> None:
        self._texts: list[tuple[str, ...]] = []
        self._numbers: dict[tuple[str, ...], int] = {}

    def pack(self, example: Example) -> bytes:
        """Return the example as bytes."""
        terms = _queries([self._number(each.texts) for each in example.terms], example.terms)
        lists = (
            _queries([each.texts for each in example.sentences], example.sentences),
            _queries([each.texts for each in example.pairs], example.pairs),
        )
        head = (example.image_id, example.path, example.width, example.height)
        own = (example.report, example.findings, example.tags)
        return pack((*head, example.subject_id, example.study_id, *lists, *own, terms))

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

    def start_of(self, texts: list[tuple[str, ...]]) -> bytes:
        """Return the packed queries of these texts with one box each, up to their boxes."""
        numbers = [self._number(each) for each in texts]
        return b"\x94" + pack(numbers) + pack([1] * len(numbers))

    def texts_of(self, number: int) -> tuple[str, ...]:
        """Return the texts with a number."""
        return self._texts[number]

    def __repr__(self) -> str:
        return repr(self._texts)

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
    boxes = np.array([box for each in queries for box in each.boxes], np.float64)
    return texts, counts, pack_boxes(boxes), denials


def pack_boxes(boxes: Numbers) -> bytes:
    """Return (N, 4) boxes as bytes: a flag, then tenths or numbers."""
    tenths = as_tenths(boxes)
    return b"\1" + boxes.tobytes() if tenths is None else b"\0" + tenths.tobytes()


def as_tenths(boxes: Numbers) -> NDArray[np.uint16] | None:
    """Return boxes as tenths of a pixel; None if that changes a bit of a number."""
    if boxes.size and not (boxes.min() >= 0 and boxes.max() <= MOST_TENTHS / 10):
        return None
    tenths = np.rint(boxes * 10).astype(np.uint16)
    return tenths if (tenths / 10).tobytes() == boxes.tobytes() else None


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
        return map(head_of, self._rows)

    def with_queries(self) -> "Examples":
        """Return the examples with a term or a sentence."""
        held = ((row, _unpack(row)) for row in self._rows)
        return Examples([row for row, each in held if each.terms[0] or each.sentences[0]], self._names)

    def texts(self) -> set[str]:
        """Return all distinct texts of the training."""
        found: set[str] = set()
        numbers: set[int] = set()
        for each in map(_unpack, self._rows):
            found.update(each.report)
            for texts, _, _, denials in (each.terms, each.sentences):
                found.update(*denials)
                for own in texts:
                    numbers.add(own) if isinstance(own, int) else found.update(own)
        return found.union(*(self._names.texts_of(each) for each in numbers))

    def digest(self) -> str:
        """Return 12 hex digits over the rows and the texts that they number."""
        found = hashlib.sha256(repr(self._names).encode())
        for row in self._rows:
            found.update(b"%d:" % len(row))
            found.update(row)
        return found.hexdigest()[:12]

    def where(self, test: Callable[[Example], bool]) -> "Examples":
        """Return the examples that pass the test, in order."""
        return Examples([row for row in self._rows if test(self._names.unpack(row))], self._names)


def where(examples: Sequence[Example], test: Callable[[Example], bool]) -> Sequence[Example]:
    """Return the examples that pass the test, in order; packed ones stay packed."""
    if isinstance(examples, Examples):
        return examples.where(test)
    return [each for each in examples if test(each)]


def with_queries(examples: Sequence[Example]) -> Sequence[Example]:
    """Return the examples with a term or a sentence."""
    if isinstance(examples, Examples):
        return examples.with_queries()
    return [each for each in examples if each.terms or each.sentences]


def digest(examples: Sequence[Example]) -> str:
    """Return 12 hex digits that identify the examples; packed ones have others than the same unpacked."""
    return examples.digest() if isinstance(examples, Examples) else unpacked.digest(examples)


def all_texts(examples: Sequence[Example]) -> set[str]:
    """Return all distinct texts of the training."""
    return examples.texts() if isinstance(examples, Examples) else set(unpacked.all_texts(examples))


def heads(examples: Iterable[Example]) -> Iterable[Example | Head]:
    """Return the examples, or what is known of packed ones without their queries."""
    return examples.heads() if isinstance(examples, Examples) else examples


class ByImage(MutableMapping[str, Example]):
    """Examples by image, packed except the last ones that were read: only those may be changed."""

    def __init__(self) -> None:
        self._rows: dict[str, bytes] = {}
        self._open: OrderedDict[str, Example] = OrderedDict()
        self.names = Names()

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._rows

    def __getitem__(self, image_id: str) -> Example:
        if image_id not in self._open:
            self[image_id] = self.names.unpack(self._rows[image_id])
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
        return (self._open.get(image_id) or head_of(row) for image_id, row in self._rows.items())

    def _close(self) -> None:
        image_id, example = self._open.popitem(last=False)
        self._rows[image_id] = self.names.pack(example)

    def row(self, image_id: str) -> bytes | None:
        """Return the packed example of an image, None if there is none; it cannot be changed any more."""
        if image_id in self._open:
            self._rows[image_id] = self.names.pack(self._open.pop(image_id))
        return self._rows.get(image_id)

    def put(self, image_id: str, row: bytes) -> None:
        """Set the packed example of an image that is not open."""
        self._rows[image_id] = row

    def packed(self) -> Examples:
        """Return all examples, and forget them here."""
        while self._open:
            self._close()
        rows, self._rows = list(self._rows.values()), {}
        return Examples(rows, self.names)
