"""Sentences x anatomy -> pairs: the words of a report for each box of an image.

Four rules decide, after Li et al. (MICCAI 2024), who publish only the third; the others are our reading:

S1  one sentence, one region: the region's box.
S2  one region in several words (a region and a part of it), or in several sentences of the study: one box,
    the sentences joined in their order. `sentence_id` is the first one's, `sentence_ids` lists them all.
S3  one sentence, several regions: one box around them, or with `split` a pair for each region with the part
    of the sentence about it (`medground.reports.clauses`). Sentences about the same set are joined as in S2.
S4  no box: no pair. If some of several regions have no box, `regions_without_box` lists them.

A pair's text has single spaces in place of the report's line breaks. The spans of its triplets still count in
the report. Sentences of one study must be adjacent, as parse-reports writes them. Those that come again later
in the stream are paired, but not joined to the earlier ones.
"""

import logging
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from operator import attrgetter
from typing import Any, NamedTuple

from medground.anatomy import regions
from medground.errors import MedgroundError
from medground.leakage import bare
from medground.records import Anatomy, Box, Existence, Pair, Sentence, Triplet
from medground.reports.clauses import part_for

log = logging.getLogger(__name__)
Layout = tuple[tuple[str, ...], list[int]]
Layouts = dict[tuple[str, ...], Layout]  # of the regions of an image, by their names in its record
KNOWN: frozenset[str | None] = frozenset((None, *regions.SYNONYMS))  # None: a finding without a region


@dataclass(frozen=True)
class Rules:
    """Settings of pairing: existences to pair, minimum score of a box, and how to split sentences."""

    existences: frozenset[Existence] = frozenset({"present"})
    min_score: float = 0.5
    split: bool = False
    join: bool = True


def pair_sentences(
    sentences: Iterable[Sentence], anatomies: Iterable[Anatomy], rules: Rules | None = None
) -> Iterator[Pair]:
    """Yield the pairs of each study, image by image, in the order of the sentences.

    Sentences stream, with one study in memory at a time. Anatomies are kept in memory, frontal ones only. A
    study without an image gives no pairs, nor does a sentence whose triplets name no region.
    """
    return chain.from_iterable(pair_studies(sentences, anatomies, rules or Rules()))


def pair_studies(
    sentences: Iterable[Sentence], anatomies: Iterable[Anatomy], rules: Rules, continued: bool = False
) -> Iterator[list[Pair]]:
    """Yield a list of pairs for each study, also an empty one, as `pair_sentences` makes them.

    `continued` says that earlier studies were paired by another run.
    """
    images = hold(anatomies, rules.min_score)
    unknown: set[str | None] = set()
    sentences = _noting_unknown(sentences, unknown)
    study_id, met, strange = None, False, 0
    for study_id, group in groupby(sentences, attrgetter("study_id")):
        together = list(group)
        shown = images.get(study_id, [])
        met = met or bool(shown)
        own = _of_patient(together[0].subject_id, shown)
        strange += len(shown) - len(own)
        shown = own
        places = _places(together, rules) if shown else []
        yield [pair for image in shown for pair in _pairs(image, places)]
    _warn_of_names(unknown, images)
    if strange:
        log.warning(
            "boxes: %d images are of another patient than the report of their study, and left out", strange
        )
    if study_id is not None and not (met or continued):
        log.warning("no study of the sentences has an image in the boxes; are the study_ids written alike?")


def _of_patient(subject_id: str | None, shown: list["Image"]) -> list["Image"]:
    """Return the images that are of this patient, as far as both are known; 10 and p10 are the same."""
    if not subject_id:
        return shown
    own = bare(subject_id)
    return [each for each in shown if bare(each.anatomy.subject_id or own) == own]


def _noting_unknown(sentences: Iterable[Sentence], unknown: set[str | None]) -> Iterator[Sentence]:
    """Yield the sentences; add their region names that are in no list of ours to `unknown`."""
    for sentence in sentences:
        for each in sentence.triplets:
            if each.region not in KNOWN:
                unknown.add(each.region)
        yield sentence


def _warn_of_names(unknown: set[str | None], images: dict[str, list["Image"]]) -> None:
    """Warn of region names that are in no list of ours, and only in the sentences or only in the boxes."""
    layouts = {image.names for shown in images.values() for image in shown}
    own: set[str | None] = {name for names in layouts for name in names if name not in KNOWN}
    if unknown != own:
        log.warning(
            "unknown region names: %d in the sentences, %d in the boxes; see docs/parser.md",
            len(unknown - own),
            len(own - unknown),
        )


@dataclass(frozen=True, slots=True)
class Image:
    """One image with its boxes, about 2 kB: images with the same regions share `names`."""

    anatomy: Anatomy  # without its regions
    names: tuple[str, ...]
    numbers: "array[float]"  # four for each name

    def is_copy_of(self, other: "Image") -> bool:
        """Return whether both have one path, or the same size and the same boxes of at least one region."""
        own, its = self.anatomy, other.anatomy
        same = bool(self.names) and (self.names, self.numbers) == (other.names, other.numbers)
        return own.path == its.path or (same and (own.width, own.height) == (its.width, its.height))

    def box(self, name: str) -> Box | None:
        """Return the region's box, or the one around all its parts; None if a part is missing."""
        if name in self.names:
            at = 4 * self.names.index(name)
            x1, y1, x2, y2 = self.numbers[at : at + 4]
            return (x1, y1, x2, y2)
        parts = [self.box(part) for part in regions.PARTS.get(name, ())]
        found = [box for box in parts if box is not None]
        return around(found) if found and len(found) == len(parts) else None


def hold(anatomies: Iterable[Anatomy], min_score: float) -> dict[str, list[Image]]:
    """Return the frontal images of each study, with the boxes whose score is at least `min_score`.

    Raises MedgroundError for an image that occurs twice. Images without a study_id, and copies of another
    image of their study, are counted in a warning.
    """
    images: dict[str, list[Image]] = defaultdict(list)
    seen: set[str] = set()
    layouts: Layouts = {}
    lost = copies = 0
    for anatomy in anatomies:
        if anatomy.image_id in seen:
            raise MedgroundError(f"boxes: {anatomy.path}: the image occurs twice; keep one line for each")
        seen.add(anatomy.image_id)
        lost += anatomy.study_id is None
        if anatomy.study_id is not None and anatomy.is_frontal:
            image = _image(anatomy, min_score, layouts)
            copies += any(image.is_copy_of(other) for other in images[anatomy.study_id])
            images[anatomy.study_id].append(image)
    if copies:
        log.warning(
            "boxes: %d images have the path or all boxes of another image of their study; "
            "each gives its own pairs, so remove copies",
            copies,
        )
    if lost:
        log.warning("boxes: %d of %d images have no study_id and meet no sentence", lost, len(seen))
    return images


def _image(anatomy: Anatomy, min_score: float, layouts: Layouts) -> Image:
    kept = [each for each in anatomy.regions if each.score >= min_score]
    found = tuple(each.name for each in kept)
    if found not in layouts:
        layouts[found] = _layout(found)
    names, order = layouts[found]
    if len(names) < len(kept):  # keep the better of two boxes
        best = {each.name: each.box for each in sorted(kept, key=attrgetter("score"))}
        boxes = [best[name] for name in names]
    else:
        boxes = [kept[place].box for place in order]
    own = Anatomy(
        image_id=anatomy.image_id,
        study_id=anatomy.study_id,
        subject_id=anatomy.subject_id,
        path=anatomy.path,
        width=anatomy.width,
        height=anatomy.height,
        view=anatomy.view,
        regions=[],
        extra=anatomy.extra,
    )
    return Image(own, names, array("d", chain.from_iterable(boxes)))


def _layout(found: tuple[str, ...]) -> Layout:
    """Return the names in one order for all images, and the place of each; names may occur twice."""
    names = tuple(sorted(set(found)))
    return names, [found.index(name) for name in names]


def around(boxes: list[Box]) -> Box:
    """Return the smallest box that contains all of them; needs at least one.

    `boxes.union` would load numpy.
    """
    if len(boxes) == 1:
        return boxes[0]
    x1, y1, x2, y2 = zip(*boxes, strict=True)
    return (min(x1), min(y1), max(x2), max(y2))


class Place(NamedTuple):
    """Words of one or more sentences and the regions they refer to, before images are assigned.

    `whole` is the one region that contains all others; None if there is none.
    """

    sentences: list[Sentence]
    texts: list[str]
    names: list[str]
    whole: str | None
    triplets: list[Triplet]
    cut: bool = False  # a part of a sentence, by `split`


def _places(sentences: Iterable[Sentence], rules: Rules) -> list[Place]:
    """Return the places of one study; if the rules join, sentences about the same regions are one place."""
    places: list[Place] = []
    at: dict[frozenset[str], int] = {}
    for sentence in sentences:
        for place in _places_of(sentence, rules) if sentence.triplets else ():
            about = frozenset([place.whole] if place.whole is not None else place.names)
            if rules.join and about in at:
                places[at[about]] = _joined(places[at[about]], place)
                continue
            at[about] = len(places)
            places.append(place)
    return places


def _places_of(sentence: Sentence, rules: Rules) -> Iterator[Place]:
    names = _names(sentence.triplets, rules.existences)
    if not names:
        return
    whole: str | None = names[0]
    if len(names) > 1:
        whole = next((name for name in names if all(regions.holds(name, other) for other in names)), None)
    if whole is None and rules.split:
        for name in names:
            triplets = [each for each in sentence.triplets if each.region == name]
            yield Place([sentence], [_unwrapped(part_for(name, sentence))], [name], name, triplets, cut=True)
    else:
        yield Place([sentence], [_unwrapped(sentence.text)], names, whole, sentence.triplets)


def _unwrapped(text: str) -> str:
    """Return the words with single spaces; line breaks of reports have no meaning."""
    return " ".join(text.split())


def _names(triplets: list[Triplet], existences: frozenset[Existence]) -> list[str]:
    """Return the regions with one of these existences, each once, in the order of the triplets."""
    named = dict.fromkeys([each.region for each in triplets if each.existence in existences])
    return [name for name in named if name is not None and name != "unknown"]


def _joined(first: Place, then: Place) -> Place:
    """Return both places, which are about the same regions, as one; repeated words are kept once."""
    return Place(
        sentences=first.sentences + then.sentences,
        texts=list(dict.fromkeys(first.texts + then.texts)),
        names=list(dict.fromkeys(first.names + then.names)),
        whole=first.whole,
        triplets=first.triplets + then.triplets,
    )


def _pairs(image: Image, places: list[Place]) -> Iterator[Pair]:
    for place in places:
        if boxes := {name: box for name in place.names if (box := image.box(name)) is not None}:
            yield _pair(image.anatomy, place, boxes)


def _pair(anatomy: Anatomy, place: Place, boxes: dict[str, Box]) -> Pair:
    first = place.sentences[0]
    found = list(boxes.values())
    return Pair(
        image_id=anatomy.image_id,
        study_id=first.study_id,
        subject_id=first.subject_id or anatomy.subject_id,
        sentence_id=first.sentence_id,
        path=anatomy.path,
        width=anatomy.width,
        height=anatomy.height,
        text=" ".join(place.texts),
        regions=list(boxes),
        region_boxes=found,
        box=boxes[place.whole] if place.whole in boxes else around(found),
        triplets=place.triplets,
        rule=_rule(place),
        extra=_extra(anatomy, place, boxes),
    )


def _rule(place: Place) -> str:
    if place.cut or place.whole is None:
        return "S3"
    return "S2" if len(place.names) > 1 or len(place.sentences) > 1 else "S1"


def _extra(anatomy: Anatomy, place: Place, boxes: dict[str, Box]) -> dict[str, Any]:
    """Return the carried keys; the first sentence's take precedence over later ones and over the image's."""
    extra = dict(anatomy.extra)
    for sentence in reversed(place.sentences):
        extra.update(sentence.extra)
    if len(place.sentences) > 1:
        extra["sentence_ids"] = list(dict.fromkeys(each.sentence_id for each in place.sentences))
    if len(boxes) < len(place.names):
        extra["regions_without_box"] = [name for name in place.names if name not in boxes]
    return extra
