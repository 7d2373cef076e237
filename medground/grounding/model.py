"""A grounding model ready for use: the network with its calibration and flip correction.

`medground.load` returns one, and `medground ground` uses the same, so both give the same predictions.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medground.errors import MedgroundError
from medground.grounding import backends, flip, predict, starting
from medground.grounding import calibration as calibrations
from medground.grounding.calibration import Calibration
from medground.grounding.flip import FlipCorrection
from medground.grounding.phrases import Images, phrases_for
from medground.grounding.predict import MIN_SCORE, BadImage, Grounded, PredictOptions
from medground.grounding.starting import Starting
from medground.grounding.views import Seen
from medground.model_dir import ModelDir
from medground.models import letterboxed
from medground.models.view_check import ViewCheck
from medground.records import Grounding, Phrase, Report


@dataclass(frozen=True)
class GroundingModel:
    """A model that localizes phrases in chest X-rays; `medground.load` returns it.

    folder: the model folder. network: torch network or export. calibration, flip_correction: None if the
    folder holds none, or if they are switched off. view_check: marks images that are not frontal chest
    X-rays, None for no check. seen: an image that is not read again. The other fields are stated in the
    records.
    """

    folder: Path
    network: backends.Model
    calibration: Calibration | None = None
    flip_correction: FlipCorrection | None = None
    flip_correction_off: bool = False
    backend: str | None = None
    leakage: bool = False
    view_check: ViewCheck | None = None
    seen: Seen | None = None

    @property
    def name(self) -> str:
        """The hash of the weights; `model` in the records."""
        return self.network.name

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
        """Return a grounding for each image and phrase, in order: the records that `medground ground` writes.

        images: path of an image, several of them, or `Phrase` records.
        phrases: one or several phrases to localize in each image.
        report: instead of phrases, a report whose findings are localized: text, `Path`, or `Report`.
        folder: the folder that paths of `Phrase` records start from.
        coverage: widen boxes to contain this share of true boxes; requires a calibrated model.
        min_score: minimum score of a phrase's further boxes, 0.5 by default; the best box is always kept.
        min_present: minimum `present` of a phrase; below it, its boxes are removed.

        Raises MedgroundError for an unreadable image, for two paths with the same file name, and for options
        that the model cannot meet.
        """
        records = phrases_for(images, phrases, report)
        limits = self.options(coverage=coverage, min_score=min_score, min_present=min_present)
        return [found for _, found in self.ground(records, Path(folder), options=limits)]

    def options(
        self,
        *,
        coverage: float | None = None,
        min_score: float | None = None,
        min_present: float | None = None,
    ) -> PredictOptions:
        """Return the options of predictions with these thresholds, None for the defaults.

        Raises MedgroundError if the model's calibration cannot meet the coverage.
        """
        if coverage is not None:
            if min_score is not None or min_present is not None:
                raise MedgroundError("coverage is about all boxes: leave out min_score and min_present")
            if self.calibration is None:
                raise MedgroundError(f"{self.folder}: coverage needs a calibration; run medground calibrate")
            self.calibration.margin(coverage)
        return PredictOptions(
            calibration=self.calibration,
            coverage=coverage,
            min_score=MIN_SCORE if min_score is None else min_score,
            min_present=0.0 if min_present is None else min_present,
            backend=self.backend,
            leakage=self.leakage,
            flip_correction=self.flip_correction,
            flip_correction_off=self.flip_correction_off,
        )

    def ground(
        self,
        phrases: Iterable[Phrase],
        folder: Path,
        bad_image: BadImage | None = None,
        options: PredictOptions | None = None,
    ) -> Iterator[Grounded]:
        """Yield each phrase record with its grounding; both stream. See `predict.ground_phrases`."""
        how = (bad_image, options or self.options(), self.view_check, self.seen)
        return predict.ground_phrases(phrases, self.network, folder, *how)

    def ground_pixels(self, phrases: list[Phrase], pixels: NDArray[np.float32]) -> list[Grounding]:
        """Return a grounding for each phrase of one (H, W) image in [0, 1]."""
        image = letterboxed.of(pixels, self.network.config.image_size)
        return list(predict.ground_on_image(phrases, image, self.network, self.options()))


def load(
    model: str | Path = "example",
    *,
    device: str = "auto",
    backend: str = "auto",
    calibration: bool = True,
    flip_correction: bool = True,
    any_view: bool = False,
) -> GroundingModel:
    """Return the model of a folder, ready to predict; "example" is the model included in medground.

    model: a folder that `pretrain`, `finetune` or `export` wrote.
    device: "cpu", "cuda", "cuda:1"; "auto" uses a GPU if there is one.
    backend: "torch", "exported", "bf16", or "auto": the export if the folder holds one, otherwise torch.
    calibration: calibrate scores if the folder holds a calibration.
    flip_correction: correct flipped images if the folder holds a flip correction.
    any_view: do not check whether images are frontal chest X-rays.

    Raises MedgroundError if the folder holds no such model.
    """
    return of(starting.start(model, device, backend, any_view), backend, calibration, flip_correction)


def of(
    begun: Starting,
    backend: str = "auto",
    calibration: bool = True,
    flip_correction: bool = True,
    image: Path | None = None,
) -> GroundingModel:
    """Return a model that has begun to load, once it is ready.

    image: an image that it will predict, which is read meanwhile. The other arguments are those of `load`.
    Raises MedgroundError as `load` does.
    """
    folder, files = begun.folder, ModelDir(begun.folder)
    leakage = bool((files.training_record() or {}).get("leakage"))
    check = begun.view_check() if begun.view_check else None
    seen = Seen.of(image, check) if image else None
    network = begun.network()
    return GroundingModel(
        folder=folder,
        network=network,
        calibration=calibrations.load(folder, network.name) if calibration else None,
        flip_correction=flip.load(folder, network.name) if flip_correction else None,
        flip_correction_off=not flip_correction and files.has_flip_correction,
        backend="bf16" if backend == "bf16" else None,
        leakage=leakage,
        view_check=check,
        seen=seen,
    )
