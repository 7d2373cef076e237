"""Heat maps as groundings: boxes around the cells that reach a share of the map's maximum.

Maps are those of the protocol `heatmap`: an (h, w) array over the whole image for each phrase. Cells with NaN
are no input of the model. `hot_cells` makes the boxes. The score of a box is the highest value in it, so
values are at most 1. A map without a value above 0 has no box, and `present` is the highest score.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from medground import errors, hot_cells
from medground.boxes import rounded
from medground.errors import BadRecord, MedgroundError
from medground.evaluation import phrases
from medground.evaluation.heatmaps import Maps
from medground.evaluation.inputs.heatmap_files import HeatmapFile
from medground.evaluation.stats.bootstrap import Array
from medground.hot_cells import Keep
from medground.jsonl import BadLines
from medground.records import Grounding, Phrase, ScoredBox

log = logging.getLogger(__name__)
NAME = "heatmap"
FULLY_NAN = "NaN everywhere"


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule for boxes of a map. threshold: share of the maximum from which a cell is hot, in (0, 1]."""

    threshold: float = 0.5
    keep: Keep = "largest"


def read(file: HeatmapFile, known: Sequence[Phrase], rule: Rule, bad_lines: BadLines) -> Iterator[Grounding]:
    """Yield the grounding of each phrase that has a map, in the order of the phrases, in pixels.

    `bad_lines` takes the name of an array that has a value above 1, or no number at all. If it keeps none,
    arrays without any number are counted over the whole file before this raises.
    """
    maps = Maps(file, file.name)
    maps.check(known, ())
    with_map = [each for each in known if maps.name_of(each) is not None]
    phrases.need_sizes(with_map, "a heat map in pixels")
    if len(with_map) < len(known):
        log.warning("%s: no heat map for %d of %d phrases", file.name, len(known) - len(with_map), len(known))
    refused = _Refused(maps, bad_lines)
    yield from errors.sift(
        with_map, lambda each: _made(maps, each, rule), refused.take, file.name, "heat map"
    )
    refused.check(len(with_map))


@dataclass
class _Refused:
    """The arrays that are no heat maps; those without a number are counted unless they are rejected."""

    maps: Maps
    bad_lines: BadLines
    empty: list[BadRecord] = field(default_factory=list)

    def take(self, phrase: Phrase, bad: BadRecord) -> None:
        bad.place = f"{self.maps.source}: {self.maps.place_of(phrase)}: "
        if bad.problem == FULLY_NAN and self.bad_lines.rejects is None:
            self.empty.append(bad)
        else:
            self.bad_lines.take((self.maps.name_of(phrase) or "").encode(), bad)

    def check(self, count: int) -> None:
        """Raise MedgroundError for maps without a number."""
        if self.empty:
            raise MedgroundError(f"{self.empty[0]} ({len(self.empty)} of {count} heat maps)")


def _made(maps: Maps, phrase: Phrase, rule: Rule) -> Grounding:
    heatmap = maps.of(phrase)
    if heatmap is None or np.isnan(heatmap).all():
        raise BadRecord(FULLY_NAN)
    if np.nanmax(heatmap) > 1:
        raise BadRecord("values above 1 are no scores; divide the maps by their highest value")
    found = boxes(heatmap, phrase, rule)
    present = max((each.score for each in found), default=0.0)
    return Grounding(
        image_id=phrase.image_id,
        phrase_id=phrase.phrase_id,
        text=phrase.text,
        boxes=found,
        present=present,
        model=NAME,
    )


def boxes(heatmap: Array, phrase: Phrase, rule: Rule) -> list[ScoredBox]:
    """Return the boxes of an (h, w) map in pixels of the phrase's image to 0.1 pixels, best first."""
    highest = float(np.nanmax(heatmap))
    if highest <= 0:
        return []
    width, height = phrase.width or 1, phrase.height or 1
    return [
        ScoredBox(box=rounded((x1 * width, y1 * height, x2 * width, y2 * height)), score=round(score, 4))
        for (x1, y1, x2, y2), score in hot_cells.boxes(heatmap, rule.threshold * highest, rule.keep)
    ]
