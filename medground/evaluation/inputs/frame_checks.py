"""Warnings of boxes that look like those of another frame. A wrong frame is never silent.

The rules, on the numbers as they are in the file:

1. All numbers are at most 1, 100, 1000 or 1024, and the images are more than a tenth larger than that on
   both sides, in the units of the frame. No warning if the mean IoU is at least .1, and better as they are.
2. More than half of the boxes have their center outside their image.
3. The boxes fit the truth better in another frame, or with x and y changed: the mean IoU of the best boxes
   is at least .1 higher, and higher for three quarters of the phrases for which it differs. With fewer than
   ten phrases, it is also at least .9, or at least .5 and twice as high.

At most `SAMPLE` phrases are compared with the truth.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from medground.answers import frames
from medground.errors import BadRecord
from medground.records import Box, Phrase

log = logging.getLogger(__name__)
SAMPLE = 200
LARGER = 1.1
FITS, BETTER, SHARE = 0.1, 0.1, 0.75
FEW, SURE, LIKELY, TIMES = 10, 0.9, 0.5, 2  # with few phrases
SHAPES = ("normalised", "crop", "padded:1")


@dataclass
class FrameCheck:
    """The boxes of a file as they are, with their phrases; all of them are in one frame."""

    frame: str
    first: dict[int, tuple[Phrase, Box, float]] = field(default_factory=dict)  # the best box of each phrase
    boxes: int = 0
    outside: int = 0
    largest: float = 0.0
    smallest_side: float = float("inf")

    def add(self, phrase: Phrase, raw: Sequence[tuple[Box, float]], placed: Sequence[Box]) -> None:
        """Add boxes of a phrase, with scores in the file's units and without in original pixels."""
        if not (raw and phrase.width and phrase.height):
            return
        box, score = max(raw, key=lambda each: each[1])
        if id(phrase) not in self.first or self.first[id(phrase)][2] < score:
            self.first[id(phrase)] = phrase, box, score
        self.boxes += len(placed)
        self.outside += sum(not _center_inside(each, phrase.width, phrase.height) for each in placed)
        self.largest = max(self.largest, *(max(each) for each, _ in raw))
        self.smallest_side = min(self.smallest_side, *frames.sides(self.frame, phrase.width, phrase.height))

    def warn(self, source: str) -> None:
        """Warn if a rule applies; the first one that does."""
        if not self.first:
            return
        limit, like = next(((limit, name) for limit, name in frames.LIMITS if self.largest <= limit), (0, ""))
        if limit and limit * LARGER < self.smallest_side and not self._fits_better_than(like):
            log.warning(
                "%s: all numbers are within 0 to %d, and the images are larger: is it --coordinates %s?",
                *(source, limit, self.better() or like),
            )
        elif self.outside * 2 > self.boxes:
            best = self.better() or like or "stretch:WxH of larger images"
            log.warning(
                "%s: %d of %d boxes lie outside their images: is it --coordinates %s?",
                *(source, self.outside, self.boxes, best),
            )
        elif better := self.better():
            log.warning(
                "%s: the boxes fit the truth better with --coordinates %s (mean IoU %.2f, not %.2f)",
                *(source, better, _mean(self._ious(better)), _mean(self._ious(self.frame))),
            )

    def _fits_better_than(self, other: str) -> bool:
        own = _mean(self._ious(self.frame))
        return own >= FITS and own > _mean(self._ious(other))

    def better(self) -> str | None:
        """Return the frame that fits the truth clearly better; None if there is none."""
        own = self._ious(self.frame)
        fits = {name: self._ious(name) for name in self._others()}
        best = max(fits, key=lambda name: _mean(fits[name]), default=None)
        if best is None or not own:
            return None
        found = fits[best]
        differing = [(a, b) for a, b in zip(own, found, strict=True) if a != b]
        wins = sum(b > a for a, b in differing)
        clear = _mean(found) >= _mean(own) + BETTER and wins >= SHARE * len(differing)
        if len(own) < FEW:
            clear &= _mean(found) >= min(SURE, max(LIKELY, TIMES * _mean(own)))
        return best if clear else None

    def _others(self) -> list[str]:
        """Return the frames in which the numbers could be, without the stated one."""
        shapes = [
            name
            for limit, name in frames.LIMITS
            if self.largest <= limit * (1 + frames.SLACK) and (limit > 1 or self.largest > 1)
        ]
        if self.largest <= 1 + frames.SLACK:
            shapes = list(SHAPES)
        elif self.largest <= 1000 * (1 + frames.SLACK):
            shapes.append("padded:1000")
        if self.largest > 1:
            shapes += [frames.ORIGINAL, frames.SWAPPED, "smart-resize"]
        both = [prefix + each for prefix in ("", frames.TURNED, frames.CENTERED) for each in shapes]
        if not self.frame.startswith((frames.TURNED, frames.CENTERED)):
            both += [frames.TURNED + self.frame, frames.CENTERED + self.frame]
        return [each for each in dict.fromkeys(both) if each != self.frame]

    def _ious(self, frame: str) -> list[float]:
        """Return the best IoU of the best box of each sampled phrase; 0 for one outside the frame."""
        known = [(phrase, box) for phrase, box, _ in self.first.values() if phrase.boxes]
        step = max(1, len(known) // SAMPLE)
        return [_best_iou(frame, box, phrase) for phrase, box in known[::step]]


def _best_iou(frame: str, box: Box, phrase: Phrase) -> float:
    try:
        placed = frames.to_original(frame, box, phrase.width or 1, phrase.height or 1)
    except BadRecord:
        return 0.0
    return max(_iou(placed, each) for each in phrase.boxes or ())


def _iou(a: Box, b: Box) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, wide) * max(0.0, high)
    either = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / either if either > 0 else 0.0


def _center_inside(box: Box, width: int, height: int) -> bool:
    return 0 <= box[0] + box[2] <= 2 * width and 0 <= box[1] + box[3] <= 2 * height


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0
