"""Pairs and anatomies into packed examples, many images at a time.

`examples.from_pairs` and `from_anatomy` define what the examples are. Here the boxes of many images are
clipped and packed in one array. A batch with anything unusual is left to them: an image that was read
before, another size of it, or a box outside of it.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, chain, groupby, pairwise
from operator import attrgetter
from typing import Any

import numpy as np

from medground.boxes import union
from medground.data import examples
from medground.data.packed import NO_QUERIES, ByImage, as_tenths, head_of, pack, pack_boxes
from medground.errors import MedgroundError
from medground.records import Anatomy, Box, Pair

BATCH = 32  # images; more do not fit in the cache of a processor
WITH_TERMS, WITHOUT = b"\x9c", b"\x9b"  # arrays of 12 and of 11 values
MOST_LAYOUTS = 1000  # lists of names whose packed form is kept
image_of = attrgetter("image_id")


def add_pairs(
    pairs: Iterable[Pair], found: ByImage, terms: bool = False, reads: bool = False, synonyms: bool = True
) -> None:
    """Do the same as `examples.from_pairs`."""
    if terms or reads:
        examples.from_pairs(pairs, found, terms, reads, synonyms)
        return
    for batch in _batches(pairs):
        images = [list(group) for _, group in groupby(batch, image_of)]
        rows = _rows_of_pairs(images) if _are_new(images, found) else None
        if rows is None:
            examples.from_pairs(batch, found)
            continue
        for own, row in zip(images, rows, strict=True):
            found.put(own[0].image_id, row)


def add_anatomy(anatomies: Iterable[Anatomy], found: ByImage, synonyms: bool = True) -> None:
    """Do the same as `examples.from_anatomy`."""
    starts: dict[tuple[str, ...], bytes] = {}

    def start_of(names: tuple[str, ...]) -> bytes:
        if names not in starts:
            if len(starts) == MOST_LAYOUTS:
                starts.clear()
            starts[names] = found.names.start_of([examples.names_of(name, synonyms) for name in names])
        return starts[names]

    for batch in _batches(anatomies):
        heads = [head for each in batch if (head := _head(each, found)) is not None]
        names = {each.image_id for each in batch}
        terms = _terms(batch, start_of) if len(batch) == len(heads) == len(names) else None
        if terms is None:
            examples.from_anatomy(batch, found, synonyms)
            continue
        for anatomy, head, own in zip(batch, heads, terms, strict=True):
            found.put(anatomy.image_id, WITH_TERMS + head + own)


def _batches(records: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield lists of records of `BATCH` images; the ones before an error are used before it is raised."""
    batch: list[Any] = []
    images, last = 0, None
    rest = iter(records)
    while True:
        try:
            record = next(rest)
        except StopIteration:
            break
        except MedgroundError:
            yield batch
            raise
        if record.image_id != last:
            images, last = images + 1, record.image_id
            if images > BATCH:
                yield batch
                batch, images = [], 1
        batch.append(record)
    yield batch


def _are_new(images: list[list[Pair]], found: ByImage) -> bool:
    names = [own[0].image_id for own in images]
    return len(set(names)) == len(names) and not any(name in found for name in names)


def _rows_of_pairs(images: list[list[Pair]]) -> list[bytes] | None:
    """Return the example of each image as a row; None if a box is outside its image, or sizes differ."""
    boxes: list[Box] = []
    counts, sizes, queries = [], [], []
    for own in images:
        first, texts, numbers = own[0], [], []
        for pair in own:
            if (pair.width, pair.height) != (first.width, first.height):
                return None
            shown = _boxes(pair)
            boxes += shown
            texts.append((pair.text,))
            numbers.append(len(shown))
        counts.append(sum(numbers))
        sizes.append((first.width, first.height))
        queries.append((texts, numbers))
    packed = _packed(chain.from_iterable(boxes), counts, sizes)
    if packed is None:
        return None
    parts = zip(images, queries, packed, strict=True)
    return [_row(own[0], (texts, numbers, each, [])) for own, (texts, numbers), each in parts]


def _boxes(pair: Pair) -> list[Box]:
    """Return the boxes of `examples.from_pairs`, not clipped."""
    if pair.triplets and all(each.existence == "absent" for each in pair.triplets):
        return []
    several = len(pair.region_boxes) > 1 and union(pair.region_boxes) == pair.box
    return pair.region_boxes if several else [pair.box]


def _row(record: Pair | Anatomy, sentences: Any) -> bytes:
    """Return an example without terms."""
    image = (record.image_id, record.path, record.width, record.height, record.subject_id, record.study_id)
    return pack((*image, sentences, NO_QUERIES, [], {}, {}))


def _head(anatomy: Anatomy, found: ByImage) -> bytes | None:
    """Return the row of the image without its first byte, new if there is none.

    None if the row has terms, or another size of the image.
    """
    row = found.row(anatomy.image_id)
    if row is None:
        return _row(anatomy, NO_QUERIES)[1:]
    known = head_of(row)
    same = (known.width, known.height) == (anatomy.width, anatomy.height)
    return row[1:] if row[:1] == WITHOUT and same else None


def _terms(batch: list[Anatomy], start_of: Callable[[tuple[str, ...]], bytes]) -> list[bytes] | None:
    """Return the queries of each image as bytes; None if a box is outside its image."""
    numbers = chain.from_iterable([region.box for each in batch for region in each.regions])
    sizes = [(each.width, each.height) for each in batch]
    packed = _packed(numbers, [len(each.regions) for each in batch], sizes)
    if packed is None:
        return None
    names = [tuple([region.name for region in each.regions]) for each in batch]
    return [start_of(own) + pack(each) + b"\x90" for own, each in zip(names, packed, strict=True)]


def _packed(numbers: Iterable[float], counts: list[int], sizes: list[tuple[int, int]]) -> list[bytes] | None:
    """Return the boxes of each image, clipped and packed; None if one is outside of its image.

    counts: the number of boxes of each image. sizes: (width, height) of each.
    """
    boxes = np.fromiter(numbers, np.float64).reshape(-1, 4)
    low = np.maximum(boxes[:, :2], 0) + 0.0  # no -0.0
    high = np.minimum(boxes[:, 2:], np.repeat(np.array(sizes, np.float64).reshape(-1, 2), counts, axis=0))
    if not (high > low).all():
        return None
    boxes = np.concatenate([low, high], axis=1)
    tenths = as_tenths(boxes)
    ends = [0, *accumulate(counts)]
    if tenths is None:  # of some boxes
        return [pack_boxes(boxes[start:end]) for start, end in pairwise(ends)]
    whole = tenths.tobytes()
    return [b"\0" + whole[8 * start : 8 * end] for start, end in pairwise(ends)]
