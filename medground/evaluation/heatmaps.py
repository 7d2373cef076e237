"""The protocol `heatmap` (BioViL, GLoRIA): a heat map for each phrase against its boxes.

miou      the mean over t = .1, ..., .5 of IoU({heat map > t}, union of the boxes), then over phrases
cnr       |mean inside - mean outside| / sqrt(variance inside + variance outside); not in points of 100
pointing  the pointing game: the share of phrases whose highest cell has its center in a true box. Equally
          high cells share the hit.

Published figures are means over categories: the group `macro`. A heat map is an (h, w) array that covers the
whole original image at any resolution. Its name is the phrase_id or image_id/phrase_id. The heat map of the
image-free baseline is 1 in its box and 0 elsewhere.

NaN marks cells that are no input of the model, such as those outside the center crop of hi-ml's BioViL. Such
a cell is not hot, and does not count in `cnr`. Maps without any number are refused.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from medground import registry
from medground.errors import MedgroundError
from medground.evaluation import baseline, metrics, phrases, sources
from medground.evaluation.cases import as_array
from medground.evaluation.phrases import Truth
from medground.evaluation.prepared import Kind, Prepared
from medground.evaluation.report import heatmap_pictures
from medground.evaluation.report.pictures import Galleries
from medground.evaluation.stats import groups, scoring
from medground.evaluation.stats.bootstrap import Array
from medground.evaluation.stats.figures import mean_over
from medground.evaluation.stats.scoring import Figures, Measured
from medground.records import Box, Phrase

log = logging.getLogger(__name__)
NUMBERS = "biuf"  # kinds of numpy dtype that a heat map may have
NO_MAP = "expected finite numbers, or NaN, in two dimensions"


@dataclass(frozen=True)
class Maps:
    """Heat maps by name, read one at a time; `source` is for messages."""

    arrays: Mapping[str, Any]
    source: str

    def check(self, known: Iterable[Phrase], scored: Iterable[Phrase]) -> None:
        """Raise for a heat map of no known phrase or of several; warn of scored phrases without one."""
        names = Counter(map(self.name_of, known))
        if unknown := sorted(self.arrays.keys() - names.keys()):
            raise MedgroundError(f"{self.source}: {self._place(unknown[0])}: the truth has no such phrase")
        if several := sorted(name for name, times in names.items() if name is not None and times > 1):
            raise MedgroundError(
                f"{self.source}: {self._place(several[0])}: more than one phrase of the truth; name it "
                "image_id/phrase_id"
            )
        if None in map(self.name_of, scored):
            log.warning("%s: phrases without a heat map count as 0", self.source)

    def _place(self, name: str) -> str:
        """Return the number of an array for messages: its name is an ID."""
        return f"array {list(self.arrays).index(name) + 1}"

    def place_of(self, phrase: Phrase) -> str:
        """Return the place of the phrase's heat map, which it must have."""
        return self._place(self.name_of(phrase) or "")

    def name_of(self, phrase: Phrase) -> str | None:
        """Return the name of the phrase's heat map, None if it has none."""
        both = f"{phrase.image_id}/{phrase.phrase_id}"
        return next((name for name in (both, phrase.phrase_id) if name in self.arrays), None)

    def of(self, phrase: Phrase) -> Array | None:
        """Return the (h, w) heat map of a phrase, None if it has none. Raises if the array is no heat map."""
        name = self.name_of(phrase)
        if name is None:
            return None
        found = np.asarray(self.arrays[name])
        if found.dtype.kind not in NUMBERS or found.ndim != 2 or not found.size:
            raise MedgroundError(f"{self.source}: {self._place(name)}: {NO_MAP}")
        found = found.astype(float)
        if np.isinf(found).any():
            raise MedgroundError(f"{self.source}: {self._place(name)}: {NO_MAP}")
        return found


@dataclass(kw_only=True)
class HeatmapData(Prepared):
    """Phrases with boxes, and the heat maps of a model and of another one to compare with."""

    scored: Sequence[Phrase]
    train: Sequence[Phrase] | None = None
    maps: dict[str, Maps]

    @cached_property
    def found(self) -> dict[str, "Found"]:
        """The figures of each phrase, for each model."""
        return {name: figures_of(self.scored, each) for name, each in self.maps.items()}


def prepare(
    predictions: Mapping[str, Any],
    truth: Iterable[Phrase],
    train: Iterable[Phrase] | None,
    compare: Mapping[str, Any] | None,
    split: str | None,
) -> HeatmapData:
    """Return the phrases of the split that have boxes, with the heat maps of each model."""
    target = phrases.select(truth, split)
    scored = [phrase for phrase in target.scored if phrase.boxes]
    phrases.need_sizes(scored, "the protocol heatmap")
    maps = {"predictions": _maps(predictions, "predictions", target, scored)}
    if compare is not None:
        maps["compare"] = _maps(compare, "compare", target, scored)
    return HeatmapData(
        scored=scored,
        train=phrases.select_training(train, scored, split),
        elsewhere=target.elsewhere,
        maps=maps,
    )


def _maps(arrays: Mapping[str, Any], default: str, target: Truth, scored: Sequence[Phrase]) -> Maps:
    maps = Maps(arrays, sources.name_of(arrays, default))
    maps.check(target.known, scored)
    return maps


@dataclass(frozen=True, slots=True)
class Heatmap:
    """The protocol: the figures of heat maps over phrases with boxes."""

    name: str = "heatmap"
    takes: Kind = registry.PROTOCOLS["heatmap"].reads

    def measure(self, data: HeatmapData) -> Sequence[Measured]:
        """Return the figures, with the groups of `stats.groups`."""
        grouped = groups.of_phrases(data.scored)
        found = data.found
        return [
            Measured(
                protocol=self.name,
                groups=grouped,
                owners=scoring.clusters(data.scored),
                counts=grouped.counts,
                own=found["predictions"].figures(),
                prior=None if data.train is None else _baseline_figures(data.train, data.scored),
                other=found["compare"].figures() if "compare" in found else None,
            )
        ]

    def galleries(self, data: HeatmapData) -> Galleries:
        """Return the function that makes pictures of the best, median and worst heat maps.

        The heat maps are read at once.
        """
        ious = {name: each.ious for name, each in data.found.items()}
        reads = {name: each.of for name, each in data.maps.items()}
        return partial(heatmap_pictures.galleries, heatmap_pictures.choose(data.scored, reads, ious))


HEATMAP = Heatmap()


@dataclass(frozen=True, slots=True)
class Found:
    """IoU and contrast of each phrase; contrast is None if it has no value."""

    ious: list[float]
    contrasts: list[float | None]
    hits: list[float]

    def figures(self) -> Figures:
        """Return the metrics over all phrases."""
        return {
            "miou": mean_over(self.ious),
            "cnr": mean_over(self.contrasts),
            "pointing": mean_over(self.hits),
        }


def figures_of(scored: Sequence[Phrase], maps: Maps) -> Found:
    """Return the figures of phrases that have boxes and sizes; 0 without a heat map.

    Raises MedgroundError if a heat map has no number at all.
    """
    found, empty = Found([], [], []), []
    for phrase in scored:
        heatmap = maps.of(phrase)
        if heatmap is not None and np.isnan(heatmap).all():
            empty.append(maps.place_of(phrase))
            continue
        iou, contrast, hit = _compared(phrase, heatmap)
        found.ious.append(iou)
        found.contrasts.append(contrast)
        found.hits.append(hit)
    if empty:
        raise MedgroundError(
            f"{maps.source}: {empty[0]}: NaN everywhere ({len(empty)} of {len(scored)} heat maps)"
        )
    return found


def _compared(phrase: Phrase, heatmap: Array | None) -> tuple[float, float | None, float]:
    if heatmap is None:
        return 0.0, 0.0, 0.0
    true, width, height = as_array(phrase.boxes or []), phrase.width or 1, phrase.height or 1
    shares = metrics.covered_shares(true, width, height, heatmap.shape)
    return (
        metrics.heatmap_iou(heatmap, shares),
        metrics.contrast_to_noise(heatmap, shares),
        metrics.pointing(heatmap, true, width, height),
    )


def _baseline_figures(train: Sequence[Phrase], scored: Sequence[Phrase]) -> Figures:
    fitted = baseline.fit_phrases(train) if scored else None
    return box_figures(scored, [fitted.box_of(phrase) for phrase in scored if fitted])


def box_figures(scored: Sequence[Phrase], found: Sequence[Box]) -> Figures:
    """Return the figures of heat maps that are 1 in one box and 0 elsewhere, from areas."""
    pairs = [(p, as_array([box]), as_array(p.boxes or [])) for p, box in zip(scored, found, strict=True)]
    return {
        "miou": mean_over([metrics.union_iou(box, true) for _, box, true in pairs]),
        "cnr": mean_over([_box_contrast(box, true, _area(phrase)) for phrase, box, true in pairs]),
        "pointing": mean_over(
            [metrics.union_overlap(box, true)[0] / metrics.union_area(box) for _, box, true in pairs]
        ),
    }


def _area(phrase: Phrase) -> float:
    return (phrase.width or 1) * (phrase.height or 1)


def _box_contrast(box: Array, true: Array, whole: float) -> float | None:
    both, _ = metrics.union_overlap(box, true)
    within, found = metrics.union_area(true), metrics.union_area(box)
    if within >= whole:
        return None
    inside, outside = both / within, (found - both) / (whole - within)
    return metrics.noise_ratio(abs(inside - outside), inside * (1 - inside) + outside * (1 - outside))
