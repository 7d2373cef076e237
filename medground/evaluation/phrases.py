"""Phrases and the groundings predicted for them, matched and checked before anything is scored.

An image_id and a phrase_id together identify a phrase. Boxes that reach outside their image are clipped to
it, in truth and predictions alike, with a warning. Many such boxes mean that coordinates are not in
original pixels. Predictions that all lie in the upper left quarter get a warning too: they are of smaller
images.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from medground import boxes, published
from medground.errors import BadRecord, MedgroundError
from medground.evaluation import sources
from medground.evaluation.cases import Case
from medground.evaluation.image_facts import agreeing
from medground.evaluation.parts import Part
from medground.evaluation.prepared import Prepared
from medground.records import Box, Grounding, Phrase, ScoredBox

log = logging.getLogger(__name__)
ROUNDING = 0.1  # pixels that a box may lie outside its image without a warning
MANY = 20  # least number of boxes for the warning that all lie in the upper left quarter
Key = tuple[str, str]


@dataclass(kw_only=True)
class PhraseData(Prepared):
    """Phrases with the boxes predicted by a model, and by another one to compare with (None: no other)."""

    scored: Sequence[Phrase]
    train: Sequence[Phrase] | None = None
    lungs: Mapping[str, Box] | None = None  # the box around both lungs of an image_id
    own: list[Case]
    other: list[Case] | None = None
    parts: dict[bytes, Part] = field(default_factory=dict)

    def part(self, scores: Callable[[Phrase], bool]) -> Part:
        """Return the cases of the phrases that `scores` accepts; the same object for the same phrases."""
        taken = bytes(map(scores, self.scored))
        if taken not in self.parts:
            self.parts[taken] = Part.of(self.own, self.other, taken)
        return self.parts[taken]


@dataclass(frozen=True, slots=True)
class Truth:
    """The phrases of a truth: all, those to score, and those of other splits.

    Only phrases with `boxes` are scored. An empty list of boxes means that there is nothing to find.
    """

    known: list[Phrase]
    scored: list[Phrase]
    elsewhere: list[Phrase]


def prepare(
    predictions: Iterable[Grounding],
    truth: Iterable[Phrase],
    train: Iterable[Phrase] | None,
    compare: Iterable[Grounding] | None,
    split: str | None,
) -> PhraseData:
    """Return the phrases of the split with the boxes predicted for them.

    Raises MedgroundError for a prediction of an unknown phrase and for a second one of the same phrase.
    """
    target = select(truth, split)
    training = select_training(train, target.scored, split)
    own = sources.checked(predictions, "predictions", _check_prediction(target.known))
    other = None if compare is None else sources.checked(compare, "compare", _check_prediction(target.known))
    return PhraseData(
        scored=target.scored,
        train=training,
        elsewhere=target.elsewhere,
        own=match(target.scored, own, sources.name_of(predictions, "predictions")),
        other=None if other is None else match(target.scored, other, sources.name_of(compare, "compare")),
        predictions=own,
        compared=other or [],
    )


def select(truth: Iterable[Phrase], split: str | None, default: str = "truth") -> Truth:
    """Return the phrases of one split (None: of all), with their boxes clipped to their images."""
    source = sources.name_of(truth, default)
    known = sources.checked(truth, default, check_truth())
    annotated = [phrase for phrase in known if phrase.boxes is not None]
    if len(annotated) < len(known):
        log.warning("%s: %d phrases have no boxes and are not scored", source, len(known) - len(annotated))
    inside = _clipped(annotated, source)
    if split is None:
        return Truth(known, inside, [])
    names = {phrase.split for phrase in known}
    if names and split not in names:
        there = published.splits_shown(names)
        has = f"it has {there}" if there else "its phrases have no split"
        raise MedgroundError(f"{source}: split: no phrase is of {split}; {has}")
    scored = [phrase for phrase in inside if phrase.split == split]
    return Truth(known, scored, [phrase for phrase in inside if phrase.split != split])


def select_training(
    train: Iterable[Phrase] | None, scored: Sequence[Phrase], split: str | None
) -> list[Phrase] | None:
    """Return the phrases that fit the image-free baseline: of the split "train", if a split is scored.

    Raises MedgroundError if an image's size is missing, here or in the scored phrases.
    """
    if train is None:
        return None
    found = select(train, "train" if split else None, "train").scored
    need_sizes([*found, *scored], "the image-free baseline")
    return found


def check_truth() -> Callable[[Phrase], None]:
    """Return a check that raises BadRecord for a second phrase, and for a box outside its image.

    So does an image of two patients or sizes.
    """
    seen: set[Key] = set()

    def check(phrase: Phrase) -> None:
        _once(key_of(phrase), seen)
        boxes.check_phrase(phrase)

    return agreeing(check)


def _check_prediction(truth: Sequence[Phrase]) -> Callable[[Grounding], None]:
    known, seen = {key_of(each) for each in truth}, set[Key]()

    def check(grounding: Grounding) -> None:
        if key_of(grounding) not in known:
            raise BadRecord("the truth has no such phrase on this image", "phrase_id")
        _once(key_of(grounding), seen)

    return agreeing(check, truth)


def _once(key: Key, seen: set[Key]) -> None:
    if key in seen:
        raise BadRecord("the second line with this phrase of this image", "phrase_id")
    seen.add(key)


def match(phrases: Sequence[Phrase], predictions: Iterable[Grounding], source: str) -> list[Case]:
    """Return each phrase with the boxes predicted for it, best first and clipped to the image."""
    of_key = {key_of(each): each for each in predictions}
    if missing := [n for n, each in enumerate(phrases, start=1) if key_of(each) not in of_key]:
        log.warning(
            "%s: no prediction for %d of %d phrases; they count as no box (first: phrase %d, of %s)",
            *(source, len(missing), len(phrases), missing[0], phrases[missing[0] - 1].path),
        )
    own = [of_key.get(key_of(phrase)) for phrase in phrases]
    found = [_found(each, phrase) for each, phrase in zip(own, phrases, strict=True)]
    _warn_of_clipping(source, sum(moved for _, moved in found), len(phrases))
    _warn_of_corner(source, of_key, phrases)
    present = [each.present if each else 0.0 for each in own]
    return [Case(phrase, each, p) for phrase, (each, _), p in zip(phrases, found, present, strict=True)]


def _found(prediction: Grounding | None, phrase: Phrase) -> tuple[list[ScoredBox], bool]:
    """Return the predicted boxes inside the image, and whether one of them had to be clipped."""
    found = sorted(prediction.boxes, key=lambda each: -each.score) if prediction else []
    if not phrase.width or not phrase.height:
        return found, False
    inside = [(each, _clip(each.box, phrase)) for each in found]
    kept = [ScoredBox(box=box, score=each.score) for each, box in inside if box]
    return kept, any(box is None or _differs(each.box, box) for each, box in inside)


def _clipped(phrases: list[Phrase], source: str) -> list[Phrase]:
    inside = [replace(p, boxes=[_clip(box, p) or box for box in p.boxes or ()]) for p in phrases]
    moved = sum(
        any(map(_differs, a.boxes or (), b.boxes or ())) for a, b in zip(phrases, inside, strict=True)
    )
    _warn_of_clipping(source, moved, len(phrases))
    return inside


def _clip(box: Box, phrase: Phrase) -> Box | None:
    return boxes.clip(box, phrase.width, phrase.height) if phrase.width and phrase.height else box


def _differs(box: Box, other: Box) -> bool:
    return any(abs(a - b) > ROUNDING for a, b in zip(box, other, strict=True))


def _warn_of_clipping(source: str, moved: int, total: int) -> None:
    if moved:
        log.warning(
            "%s: clipped boxes of %d of %d phrases to their images; are they in original pixels?",
            *(source, moved, total),
        )


def _warn_of_corner(source: str, found: Mapping[Key, Grounding], phrases: Iterable[Phrase]) -> None:
    """Warn if all of many boxes lie in the upper left quarters of their images."""
    sizes = {key_of(each): (each.width, each.height) for each in phrases if each.width and each.height}
    places = [(each.box, sizes[key]) for key, one in found.items() if key in sizes for each in one.boxes]
    if len(places) >= MANY and all(box[2] <= w / 2 and box[3] <= h / 2 for box, (w, h) in places):
        log.warning(
            "%s: all %d boxes lie in the upper left quarter of their images; are they in original pixels, "
            "or in another --coordinates?",
            *(source, len(places)),
        )


def key_of(record: Phrase | Grounding) -> Key:
    """Return the image_id and phrase_id, which identify a phrase."""
    return record.image_id, record.phrase_id


def need_sizes(phrases: Iterable[Phrase], why: str) -> None:
    """Raise MedgroundError for the first phrase without width and height."""
    for phrase in phrases:
        if not phrase.width or not phrase.height:
            raise MedgroundError(f"{phrase.path}: {why} needs width and height of each phrase")
