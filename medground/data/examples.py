"""Training examples: an image with the phrases to localize on it, from Pairs, Anatomy or Phrases.

Boxes are in pixels of the original image, as in files.
"""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from medground.anatomy import regions
from medground.boxes import clip, union
from medground.errors import MedgroundError
from medground.objectives import tags
from medground.records import Anatomy, Box, Existence, Pair, Phrase, Sentence, Triplet
from medground.reports import laterality

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Query:
    """A phrase: one of `texts` is sampled each time. Without `boxes` its finding is absent.

    denials: negative texts, whose findings are absent from this image.
    """

    texts: tuple[str, ...]
    boxes: tuple[Box, ...]
    denials: tuple[str, ...] = ()


@dataclass(slots=True)
class Example:
    """An image with its queries: `terms` name anatomy, `sentences` come from its report.

    For objectives that use reports: `report` has its sentences in order. `pairs` has the region of each, also
    for absent findings. `findings` and `tags` have the strongest existence of each.
    """

    image_id: str
    path: str
    width: int
    height: int
    subject_id: str | None
    terms: list[Query] = field(default_factory=list)
    sentences: list[Query] = field(default_factory=list)
    study_id: str | None = None
    report: list[str] = field(default_factory=list)
    pairs: list[Query] = field(default_factory=list)
    findings: dict[str, Existence] = field(default_factory=dict)
    tags: dict[str, Existence] = field(default_factory=dict)


def from_anatomy(
    anatomies: Iterable[Anatomy], examples: MutableMapping[str, Example], synonyms: bool = True
) -> None:
    """Add the region names of each image to `examples` (by image): the pairs of AGP.

    A region outside the image is left out. Without `synonyms` only the names of regions are used.
    """
    for anatomy in anatomies:
        example = _of_image(examples, _example(anatomy))
        for region in anatomy.regions:
            if box := clip(region.box, anatomy.width, anatomy.height):
                example.terms.append(Query(names_of(region.name, synonyms), (box,)))


def from_pairs(
    pairs: Iterable[Pair],
    examples: MutableMapping[str, Example],
    terms: bool = False,
    reads: bool = False,
    synonyms: bool = True,
) -> None:
    """Add the sentence of each pair to `examples` (by image); it has no box if all its findings are absent.

    A sentence about several regions has the box of each if its box encloses them. terms: also add the names
    of the pairs' regions, once per image; with `synonyms` their synonyms. reads: keep pairs for objectives
    that use reports; they are the report until `from_sentences` replaces it.
    """
    for pair in pairs:
        example = _of_image(examples, _example(pair))
        if reads:
            _keep(pair, example)
        absent = pair.triplets and all(each.existence == "absent" for each in pair.triplets)
        boxes = () if absent else _boxes(pair)
        if absent or boxes:
            example.sentences.append(Query((pair.text,), boxes))
        for name, area in zip(pair.regions, pair.region_boxes, strict=False) if terms else ():
            if inside := clip(area, pair.width, pair.height):
                query = Query(names_of(name, synonyms), (inside,))
                if query not in example.terms:
                    example.terms.append(query)


def _boxes(pair: Pair) -> tuple[Box, ...]:
    """Return the boxes of the pair's regions if its own encloses them, else its own; clipped to the image.

    A network with one box is trained on the enclosing box in both cases.
    """
    several = pair.region_boxes and union(pair.region_boxes) == pair.box
    cut = [clip(box, pair.width, pair.height) for box in (pair.region_boxes if several else [pair.box])]
    return tuple(box for box in cut if box is not None)


def _keep(pair: Pair, example: Example) -> None:
    if box := clip(pair.box, pair.width, pair.height):
        example.pairs.append(Query((pair.text,), (box,)))
    _add_sentence(pair.text, pair.triplets, example)


def _add_sentence(text: str, triplets: Sequence[Triplet], example: Example) -> None:
    """Add a sentence to the image's report, with its findings and tags."""
    if text not in example.report:
        example.report.append(text)
    tags.merge(((each.finding, each.existence) for each in triplets), example.findings)
    tags.merge(tags.mentioned(text, triplets), example.tags)


def from_sentences(sentences: Iterable[Sentence], examples: MutableMapping[str, Example]) -> None:
    """Set the report of the images in `examples` to all sentences of their study, in order.

    Sentences of studies without an image in `examples` are ignored.
    """
    images = defaultdict(list)
    for image_id, example in examples.items():
        example.report, example.findings, example.tags = [], {}, {}
        images[example.study_id].append(image_id)
    met = False
    for sentence in sentences:
        for image_id in images.get(sentence.study_id, ()):
            _add_sentence(" ".join(sentence.text.split()), sentence.triplets, examples[image_id])
            met = True
    if examples and not met:
        log.warning("no image belongs to a study of the reports: compare their study_ids")


def names_of(region: str, synonyms: bool) -> tuple[str, ...]:
    """Return the texts of a region's query."""
    return (region, *(regions.SYNONYMS.get(region, ()) if synonyms else ()))


def from_phrases(phrases: Iterable[Phrase], sizes: "Sizes", multi_box: str = "drop") -> list[Example]:
    """Return one Example per image of phrases with annotated boxes, in order of first occurrence.

    multi_box: what to do with phrases with several boxes. "drop" leaves them out (the single-box protocol).
    "hull" takes the enclosing box, "all" all boxes. "sides" splits bilateral phrases with two boxes into one
    phrase per side and takes the hull of others.
    """
    examples: dict[str, Example] = {}
    dropped = 0
    for phrase in phrases:
        if phrase.boxes is None:
            raise MedgroundError(
                f"{phrase.path}: a phrase has no boxes; finetune requires phrases with annotated boxes"
            )
        if len(phrase.boxes) > 1 and multi_box == "drop":
            dropped += 1
            continue
        width, height = sizes(phrase)
        example = _of_image(examples, Example(phrase.image_id, phrase.path, width, height, phrase.subject_id))
        for part in _sides(phrase) if multi_box == "sides" else (phrase,):
            example.sentences.append(Query((part.text,), _inside(part, width, height, multi_box)))
    if dropped:
        log.warning("left out %d phrases with several boxes; --multi-box hull keeps them", dropped)
    return list(examples.values())


def _sides(phrase: Phrase) -> tuple[Phrase, ...]:
    """Return the phrase of each side, or the phrase unchanged; the patient's right is left in the image."""
    texts = laterality.split_bilateral(phrase.text)
    if texts is None or phrase.boxes is None or len(phrase.boxes) != 2:
        return (phrase,)
    across = sorted(phrase.boxes, key=lambda box: box[0] + box[2])
    return tuple(replace(phrase, text=text, boxes=[box]) for text, box in zip(texts, across, strict=True))


def _inside(phrase: Phrase, width: int, height: int, multi_box: str) -> tuple[Box, ...]:
    """Return the phrase's boxes, clipped to the image."""
    given = phrase.boxes or []
    cut = [clip(box, width, height) for box in ([union(given)] if given and multi_box != "all" else given)]
    found = tuple(box for box in cut if box is not None)
    if given and not found:
        raise MedgroundError(f"{phrase.path}: the box of a phrase lies outside the image")
    return found


class Sizes:
    """(width, height) of a phrase's image: from its record, else from the file, read once."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._known: dict[str, tuple[int, int]] = {}

    def __call__(self, phrase: Phrase) -> tuple[int, int]:
        if phrase.width and phrase.height:
            return phrase.width, phrase.height
        if phrase.path not in self._known:
            from medground import images

            self._known[phrase.path] = images.size(self._folder / phrase.path)
        return self._known[phrase.path]


def _of_image(examples: MutableMapping[str, Example], new: Example) -> Example:
    """Return the example of the image; add the new one if there is none.

    Raises MedgroundError if the two differ in the image size.
    """
    held = examples.setdefault(new.image_id, new)
    if (held.width, held.height) != (new.width, new.height):
        raise MedgroundError(
            f"{new.path}: its records say {held.width} x {held.height} and "
            f"{new.width} x {new.height} pixels; all boxes of an image must refer to the same size"
        )
    return held


def _example(record: Anatomy | Pair) -> Example:
    image = (record.image_id, record.path, record.width, record.height, record.subject_id)
    return Example(*image, study_id=record.study_id)


def all_texts(examples: Iterable[Example]) -> list[str]:
    """Return all distinct texts of the training, sorted, to build a vocabulary."""
    found = set()
    for each in examples:
        found.update(each.report)
        for query in (*each.terms, *each.sentences):
            found.update(query.texts, query.denials)
    return sorted(found)


FIELDS = {kind: [each.name for each in fields(kind)] for kind in (Example, Query)}


def digest(examples: Iterable[Example]) -> str:
    """Return 12 hex digits over repr([asdict(each) for each in examples]).

    It is computed one example at a time: the text of hundreds of thousands would need gigabytes.
    """
    found = hashlib.sha256(b"[")
    for number, each in enumerate(examples):
        found.update(f"{', ' if number else ''}{_plain(each)!r}".encode())
    found.update(b"]")
    return found.hexdigest()[:12]


def _plain(part: Any) -> Any:
    """Return the same as asdict, without copies of what is inside."""
    if type(part) in FIELDS:
        return {name: _plain(getattr(part, name)) for name in FIELDS[type(part)]}
    return [_plain(each) for each in part] if isinstance(part, list) else part
