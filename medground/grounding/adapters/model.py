"""A model of others ready for use: phrases and images -> groundings, as `GroundingModel` makes them.

`score` and `present` are not calibrated. A model without scores has the score 1 for each box. `present` is
the highest score, 0 without a box.
"""

import itertools
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medground import boxes, devices, images
from medground.errors import MedgroundError
from medground.grounding.adapters import sources
from medground.grounding.phrases import Images, phrases_for
from medground.grounding.predict import (
    CARRIED,
    MIN_SCORE,
    BadImage,
    Grounded,
    PredictOptions,
    is_absent,
    option_keys,
)
from medground.grounding.views import Views
from medground.models.letterboxed import is_scaled
from medground.models.view_check import ViewCheck
from medground.records import Box, Grounding, Phrase, Report, ScoredBox

log = logging.getLogger(__name__)
THINNEST = 0.1  # pixels: a thinner box has no area in files
AT_ONCE = 8  # phrases of an image that a model gets together


@dataclass
class Found:
    """The boxes of one phrase in pixels of the image, with scores in [0, 1], in any order.

    unreadable: boxes that the model wrote, but that could not be read.
    """

    boxes: list[tuple[Box, float]] = field(default_factory=list)
    unreadable: int = 0
    cut: bool = False


class Adapter(Protocol):
    """A loaded model."""

    def find(self, image: Image.Image, phrases: list[str]) -> list[Found]:
        """Return what the model finds for each of these phrases on an RGB image."""


@dataclass(frozen=True)
class ForeignModel:
    """A model that transformers loaded; it has what `ground` uses of a `GroundingModel`."""

    name: str
    adapter: Adapter
    at_once: int = AT_ONCE
    view_check: ViewCheck | None = None
    special: re.Pattern[str] | None = None
    prompt: str | None = None

    def predict(
        self,
        images: Images,
        phrases: str | Iterable[str] | None = None,
        *,
        report: str | Path | Report | None = None,
        folder: str | Path = ".",
        coverage: float | None = None,
        min_score: float | None = None,
        min_present: float | None = None,
    ) -> list[Grounding]:
        """Return a grounding for each image and phrase, in order, as `GroundingModel.predict` does."""
        records = phrases_for(images, phrases, report)
        limits = self.options(coverage=coverage, min_score=min_score, min_present=min_present)
        return [found for _, found in self.ground(records, Path(folder), None, limits)]

    def options(
        self,
        *,
        coverage: float | None = None,
        min_score: float | None = None,
        min_present: float | None = None,
    ) -> PredictOptions:
        """Return the options of predictions, None for the defaults; raise MedgroundError for a coverage."""
        if coverage is not None:
            raise MedgroundError("--coverage needs a calibration, which models of others do not have")
        return PredictOptions(
            min_score=MIN_SCORE if min_score is None else min_score, min_present=min_present or 0.0
        )

    def ground(
        self, phrases: Iterable[Phrase], folder: Path, bad_image: BadImage | None, options: PredictOptions
    ) -> Iterator[Grounded]:
        """Yield each phrase record with its grounding, in order; see `predict.ground_phrases`."""
        counts, views = Counter[str](), Views(self.view_check)
        by_image = attrgetter("path", "width", "height")
        for (path, width, height), group in itertools.groupby(phrases, key=by_image):
            together = list(group)
            try:
                pixels = images.load(folder / path)
                size = _size(pixels, width, height, folder / path)
            except MedgroundError as problem:
                if bad_image is None:
                    raise
                for phrase in together:
                    bad_image(phrase, problem)
                continue
            sized = [replace(each, width=size[0], height=size[1]) for each in together]
            sized = views.marked(sized, folder / path, pixels)
            counts["special"] += sum(self._plain(each.text) != each.text for each in sized)
            for phrase, found in zip(sized, self._found(sized, pixels), strict=True):
                scored = list(_inside(found, phrase))
                counts["cut"] += found.cut
                counts["unreadable"] += found.unreadable
                counts["outside"] += len(found.boxes) - len(scored)
                yield phrase, self._grounding(phrase, scored, options)
        _warn(counts)
        views.warn()

    def _found(self, phrases: list[Phrase], pixels: NDArray[np.float32]) -> list[Found]:
        """Return what is found for each phrase of one image, in pixels of its record."""
        grey = Image.fromarray((np.clip(np.nan_to_num(pixels), 0, 1) * 255).round().astype(np.uint8))
        image, texts = (
            grey.convert("RGB"),
            [self._plain(each.text) for each in phrases if not is_absent(each)],
        )
        answers = iter(
            found
            for start in range(0, len(texts), self.at_once)
            for found in self.adapter.find(image, texts[start : start + self.at_once])
        )
        across, down = (phrases[0].width or 1) / image.width, (phrases[0].height or 1) / image.height
        return [Found() if is_absent(each) else _times(next(answers), across, down) for each in phrases]

    def stated(self) -> dict[str, str]:
        """Return the keys by which a record states the prompt, if it is not the adapter's own."""
        return {} if self.prompt is None else {"prompt": self.prompt}

    def _plain(self, phrase: str) -> str:
        """Return a phrase without special tokens of the model, which would change its input."""
        return phrase if self.special is None else self.special.sub(" ", phrase)

    def _grounding(self, phrase: Phrase, scored: list[ScoredBox], options: PredictOptions) -> Grounding:
        carried = {key: getattr(phrase, key) for key in CARRIED if getattr(phrase, key) is not None}
        ranked = sorted(scored, key=lambda each: -each.score)
        present = ranked[0].score if ranked else 0.0
        kept = [each for n, each in enumerate(ranked) if n == 0 or each.score >= options.min_score]
        return Grounding(
            image_id=phrase.image_id,
            phrase_id=phrase.phrase_id,
            text=phrase.text,
            boxes=kept if present >= options.min_present else [],
            present=present,
            model=self.name,
            extra=carried | phrase.extra | option_keys(options) | self.stated(),
        )


def _size(pixels: NDArray[np.float32], width: int | None, height: int | None, path: Path) -> tuple[int, int]:
    """Return the (width, height) that boxes are in: the record's, or else the file's."""
    own = (pixels.shape[1], pixels.shape[0])
    if not (width and height) or own == (width, height):
        return own
    if not is_scaled(own, (width, height)):
        raise MedgroundError(
            f"{path}: is {own[0]} x {own[1]} pixels, its phrases say {width} x {height}, which is no scaled "
            "copy; give the annotated images with --images"
        )
    return width, height


def _times(found: Found, across: float, down: float) -> Found:
    placed = [
        ((x1 * across, y1 * down, x2 * across, y2 * down), score) for (x1, y1, x2, y2), score in found.boxes
    ]
    return replace(found, boxes=placed)


def _inside(found: Found, phrase: Phrase) -> Iterator[ScoredBox]:
    """Yield the boxes, rounded as files hold them, without what lies outside the image."""
    for box, score in found.boxes:
        clipped = boxes.clip(box, phrase.width or 1, phrase.height or 1)
        if clipped is not None and min(clipped[2] - clipped[0], clipped[3] - clipped[1]) >= THINNEST:
            yield ScoredBox(box=boxes.rounded(clipped), score=round(score, 4))


def _warn(counts: Counter[str]) -> None:
    if counts["cut"]:
        log.warning("%d phrases are too long for the model and were cut", counts["cut"])
    if counts["special"]:
        log.warning("%d phrases have special tokens of the model, which were left out", counts["special"])
    if counts["unreadable"]:
        log.warning("%d boxes of the model could not be read", counts["unreadable"])
    if counts["outside"]:
        log.warning("%d boxes without area, or outside their image, were left out", counts["outside"])


def load(
    folder: Path, device: str = "auto", trust_remote_code: bool = False, prompt: str | None = None
) -> ForeignModel | None:
    """Return the model of a folder that transformers saved; None for a folder of medground.

    prompt: what the model gets, with {phrase} for the phrase; None for the prompt of the adapter.

    Raises MedgroundError if there is no adapter for it, if it cannot be loaded, and for a prompt without
    {phrase}.
    """
    if prompt is not None and "{phrase}" not in prompt:
        raise MedgroundError("the prompt lacks {phrase}, the place of the phrase")
    config = sources.read_config(folder)
    if config is None:
        return None
    source = sources.Source(folder, config, devices.resolve(device), trust_remote_code, prompt)
    adapter = sources.adapter_of(source).load()(source)
    special = sources.special_tokens(adapter)
    return ForeignModel(sources.name_of(folder), adapter, special=special, prompt=prompt)
