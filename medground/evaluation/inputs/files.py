"""Truth and answers from files, checked against each other before anything is scored.

A phrase is known by its image_id and phrase_id together. Boxes that reach outside their image are clipped to
it, in truth and answers alike, with a warning: many of them mean that a file is not in original pixels. So
do answers that all lie in the corner where coordinates are small: they are of smaller images.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

from medground import boxes, jsonl
from medground.errors import BadRecord, MedgroundError
from medground.evaluation.protocols import Case
from medground.records import Box, Grounding, Phrase, ScoredBox

log = logging.getLogger(__name__)
ROUNDING = 0.1  # pixels: what a box may lie outside its image without being told
MANY = 20  # boxes that do not all lie in the upper left quarter of a chest film
Key = tuple[str, str]


@dataclass
class Hashed:
    """A stream of lines that knows the SHA-256 of what has been read from it."""

    stream: BinaryIO
    sha256: Any = field(default_factory=hashlib.sha256)

    @property
    def name(self) -> str:
        """The stream's name in messages."""
        return jsonl.name_of(self.stream)

    @property
    def digest(self) -> str:
        """The first 12 hexadecimal digits, of all lines once they have been read."""
        return str(self.sha256.hexdigest())[:12]

    def __iter__(self) -> Iterator[bytes]:
        for line in self.stream:
            self.sha256.update(line)
            yield line


@dataclass(frozen=True, slots=True)
class Truth:
    """The phrases of a file: all that it names, and those of them that somebody drew boxes for (or marked as
    showing nothing), with their boxes inside their images."""

    source: str
    known: list[Phrase]
    drawn: list[Phrase]

    def of_split(self, split: str | None) -> list[Phrase]:
        """The drawn phrases of one split, all where it is None; raises where no phrase is of that split."""
        if split is None:
            return self.drawn
        names = {phrase.split for phrase in self.known}
        if names and split not in names:
            there = ", ".join(sorted(name for name in names if name))
            has = f"it has {there}" if there else "its phrases have no split"
            raise MedgroundError(f"{self.source}: split: no phrase is of {split}; {has}")
        return [phrase for phrase in self.drawn if phrase.split == split]


def read_truth(stream: Any, bad_lines: jsonl.BadLines) -> Truth:
    """The phrases of a file; one that comes twice, or whose box lies outside its image, is a bad line."""
    seen: set[Key] = set()

    def check(phrase: Phrase) -> None:
        _once(_key(phrase), seen)
        for number, box in enumerate(phrase.boxes or ()):
            if phrase.width and phrase.height and boxes.clip(box, phrase.width, phrase.height) is None:
                raise BadRecord("lies outside the image", "boxes", number)

    source, known = jsonl.name_of(stream), list(jsonl.read(stream, Phrase, bad_lines, check))
    if undrawn := sum(phrase.boxes is None for phrase in known):
        log.warning("%s: %d phrases have no boxes and are not scored", source, undrawn)
    drawn = _clipped([phrase for phrase in known if phrase.boxes is not None], source)
    return Truth(source, known, drawn)


def _clipped(phrases: list[Phrase], source: str) -> list[Phrase]:
    inside = [replace(p, boxes=[_clip(box, p) or box for box in p.boxes or ()]) for p in phrases]
    moved = sum(
        any(map(_differs, a.boxes or (), b.boxes or ())) for a, b in zip(phrases, inside, strict=True)
    )
    _warn_of_clipping(source, moved, len(phrases))
    return inside


def cases(phrases: Sequence[Phrase], answers: dict[Key, Grounding], source: str) -> list[Case]:
    """Each phrase with the boxes found for it, clipped to the image; none where there is no answer."""
    if missing := [phrase for phrase in phrases if _key(phrase) not in answers]:
        log.warning(
            "%s: no answer for %d of %d phrases; they count as nothing found (first: phrase_id %s)",
            *(source, len(missing), len(phrases), missing[0].phrase_id),
        )
    found = [_found(answers.get(_key(phrase)), phrase) for phrase in phrases]
    moved = sum(inside for _, inside in found)
    _warn_of_clipping(source, moved, len(phrases))
    _warn_of_corner(source, answers.values(), phrases)
    return [Case(phrase, each) for phrase, (each, _) in zip(phrases, found, strict=True)]


def _found(answer: Grounding | None, phrase: Phrase) -> tuple[list[ScoredBox], bool]:
    """The boxes of the answer inside the image, and whether one of them had to be clipped."""
    found = answer.boxes if answer else []
    if not phrase.width or not phrase.height:
        return found, False
    inside = [(each, _clip(each.box, phrase)) for each in found]
    kept = [ScoredBox(box=box, score=each.score) for each, box in inside if box]
    return kept, any(box is None or _differs(each.box, box) for each, box in inside)


def _differs(box: Box, other: Box) -> bool:
    return any(abs(a - b) > ROUNDING for a, b in zip(box, other, strict=True))


def _warn_of_corner(source: str, answers: Iterable[Grounding], phrases: Iterable[Phrase]) -> None:
    """Say so where all of many boxes lie in the upper left quarters of their images."""
    sizes = {_key(each): (each.width, each.height) for each in phrases if each.width and each.height}
    places = [(each.box, sizes[_key(one)]) for one in answers if _key(one) in sizes for each in one.boxes]
    if len(places) >= MANY and all(box[2] <= w / 2 and box[3] <= h / 2 for box, (w, h) in places):
        log.warning(
            "%s: all %d boxes lie in the upper left quarter of their images; are they in original pixels, "
            "or in another --coordinates?",
            *(source, len(places)),
        )


def _clip(box: Box, phrase: Phrase) -> Box | None:
    return boxes.clip(box, phrase.width, phrase.height) if phrase.width and phrase.height else box


def _warn_of_clipping(source: str, moved: int, total: int) -> None:
    if moved:
        log.warning(
            "%s: clipped boxes of %d of %d phrases to their images; are they in original pixels?",
            *(source, moved, total),
        )


def _key(record: Phrase | Grounding) -> Key:
    return record.image_id, record.phrase_id


def _once(key: Key, seen: set[Key]) -> None:
    if key in seen:
        raise BadRecord("the second line with this phrase of this image", "phrase_id")
    seen.add(key)


def need_sizes(phrases: Iterable[Phrase], why: Callable[[], str]) -> None:
    """Raise MedgroundError for the first phrase without width and height."""
    for phrase in phrases:
        if not phrase.width or not phrase.height:
            raise MedgroundError(f"phrase_id {phrase.phrase_id}: {why()} needs its width and height")
