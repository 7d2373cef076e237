"""What training sees: an image and the phrases to find on it, made from Pairs, Anatomy or Phrases.

Boxes are pixels of the original image, as in files.
"""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
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
    """Words to find: one of `texts` is drawn each time. Without `boxes` there is nothing to show.

    For none of `denials` is there anything to show on this image either.
    """

    texts: tuple[str, ...]
    boxes: tuple[Box, ...]
    denials: tuple[str, ...] = ()


@dataclass(slots=True)
class Example:
    """One image with all that is asked of it: `terms` name anatomy, `sentences` come from its report.

    For objectives that read reports: `report` has its sentences in order, `pairs` what each of them speaks
    of, absent findings too; `findings` and `tags` have what is said of them most strongly.
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


def from_anatomy(anatomies: Iterable[Anatomy], examples: dict[str, Example], synonyms: bool = True) -> None:
    """Add to `examples` (by image) the terms of each image's regions: AGP's pairs.

    Images that lack regions are used for those that they have. A region outside the image is left out.
    Without `synonyms` a region is asked for by its own name alone.
    """
    for anatomy in anatomies:
        example = _of_image(examples, _example(anatomy))
        for region in anatomy.regions:
            if box := clip(region.box, anatomy.width, anatomy.height):
                example.terms.append(Query(_names(region.name, synonyms), (box,)))


def from_pairs(
    pairs: Iterable[Pair],
    examples: dict[str, Example],
    terms: bool = False,
    reads: bool = False,
    synonyms: bool = True,
) -> None:
    """Add to `examples` (by image) the sentence of each pair; with all its findings absent it has no box.

    A sentence of several regions, whose box is around theirs, has the box of each. With `terms` the names of
    the pairs' regions, and with `synonyms` other words for them, are asked for too, each region once an
    image. With `reads` the pairs are kept for objectives that read reports, and are the report until
    `from_sentences` brings it.
    """
    for pair in pairs:
        example = _of_image(examples, _example(pair))
        if reads:
            _read(pair, example)
        absent = pair.triplets and all(each.existence == "absent" for each in pair.triplets)
        shown = () if absent else _shown(pair)
        if absent or shown:
            example.sentences.append(Query((pair.text,), shown))
        for name, area in zip(pair.regions, pair.region_boxes, strict=False) if terms else ():
            if inside := clip(area, pair.width, pair.height):
                query = Query(_names(name, synonyms), (inside,))
                if query not in example.terms:
                    example.terms.append(query)


def _shown(pair: Pair) -> tuple[Box, ...]:
    """The boxes of the pair's regions where its own is the one around them, else that one; cut to the image.

    A network that answers with one box learns the box around them all the same.
    """
    several = pair.region_boxes and union(pair.region_boxes) == pair.box
    cut = [clip(box, pair.width, pair.height) for box in (pair.region_boxes if several else [pair.box])]
    return tuple(box for box in cut if box is not None)


def _read(pair: Pair, example: Example) -> None:
    if box := clip(pair.box, pair.width, pair.height):
        example.pairs.append(Query((pair.text,), (box,)))
    _note(pair.text, pair.triplets, example)


def _note(text: str, triplets: Sequence[Triplet], example: Example) -> None:
    """Add a sentence to the image's report, with what it says of findings and tags."""
    if text not in example.report:
        example.report.append(text)
    tags.merge(((each.finding, each.existence) for each in triplets), example.findings)
    tags.merge(tags.mentioned(text, triplets), example.tags)


def from_sentences(sentences: Iterable[Sentence], examples: dict[str, Example]) -> None:
    """Give the images in `examples` the whole report of their study, in the order of its sentences.

    The sentences stream; those of studies without an image in `examples` are passed over.
    """
    images = defaultdict(list)
    for example in examples.values():
        example.report, example.findings, example.tags = [], {}, {}
        images[example.study_id].append(example)
    met = False
    for sentence in sentences:
        for example in images.get(sentence.study_id, ()):
            _note(" ".join(sentence.text.split()), sentence.triplets, example)
            met = True
    if examples and not met:
        log.warning("no image is of a study of the reports; are the study_ids written alike?")


def _names(region: str, synonyms: bool) -> tuple[str, ...]:
    return (region, *(regions.SYNONYMS.get(region, ()) if synonyms else ()))


def from_phrases(phrases: Iterable[Phrase], sizes: "Sizes", multi_box: str = "drop") -> list[Example]:
    """One Example an image for phrases that have boxes drawn, in order of first mention.

    A phrase with several boxes is left out with multi_box "drop" (the single-box protocol), has the box
    around all of them with "hull", or each of them with "all". With "sides" one about both sides, with two
    boxes, becomes two phrases, one a side; others have their hull.
    """
    examples: dict[str, Example] = {}
    dropped = 0
    for phrase in phrases:
        if phrase.boxes is None:
            raise MedgroundError(
                f"phrase {phrase.phrase_id}: no boxes; finetune needs phrases with boxes drawn"
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
    """The phrase for each side, the patient's right on the left of the film; or the phrase as it is."""
    said = laterality.split_bilateral(phrase.text)
    if said is None or phrase.boxes is None or len(phrase.boxes) != 2:
        return (phrase,)
    across = sorted(phrase.boxes, key=lambda box: box[0] + box[2])
    return tuple(replace(phrase, text=text, boxes=[box]) for text, box in zip(said, across, strict=True))


def _inside(phrase: Phrase, width: int, height: int, multi_box: str) -> tuple[Box, ...]:
    """The phrase's boxes, cut to the image."""
    drawn = phrase.boxes or []
    cut = [clip(box, width, height) for box in ([union(drawn)] if drawn and multi_box != "all" else drawn)]
    found = tuple(box for box in cut if box is not None)
    if drawn and not found:
        raise MedgroundError(f"phrase {phrase.phrase_id}: its box lies outside the image")
    return found


class Sizes:
    """(width, height) of a phrase's image: what its record says, else what the file says, looked up once."""

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


def _of_image(examples: dict[str, Example], new: Example) -> Example:
    """The example of the image among these, the new one where there is none yet; raises MedgroundError where
    the two count its boxes in pixels of different sizes."""
    held = examples.setdefault(new.image_id, new)
    if (held.width, held.height) != (new.width, new.height):
        raise MedgroundError(
            f"image {new.image_id}: its records say {held.width} x {held.height} and "
            f"{new.width} x {new.height} pixels; give boxes of one image in the pixels of one size"
        )
    return held


def _example(record: Anatomy | Pair) -> Example:
    image = (record.image_id, record.path, record.width, record.height, record.subject_id)
    return Example(*image, study_id=record.study_id)


def all_texts(examples: Iterable[Example]) -> list[str]:
    """Every text that training may show, once, sorted: what a vocabulary is made of."""
    queries = (query for each in examples for query in (*each.terms, *each.sentences))
    reports = {text for each in examples for text in each.report}
    return sorted({text for query in queries for text in (*query.texts, *query.denials)} | reports)


FIELDS = {kind: [each.name for each in fields(kind)] for kind in (Example, Query)}


def digest(examples: Sequence[Example]) -> str:
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
