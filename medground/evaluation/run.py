"""The evaluation of files: read the records, evaluate them. The command writes the scores."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from medground import jsonl
from medground.evaluation import (
    anatomy,
    answers,
    classification,
    front,
    phrases,
    protocols,
    robustness,
    segmentation,
    written,
)
from medground.evaluation.front import Scores
from medground.evaluation.inputs import coco_results, files, heatmap_files, predictions
from medground.evaluation.perturbations import PROBES
from medground.evaluation.sources import Records
from medground.evaluation.stats.scoring import Resampling
from medground.jsonl import BadLines
from medground.records import Anatomy, Answer, Classification, Label, Mask, Phrase, Question, Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The open files of an evaluation, and how to read and score them.

    model, split and allow_leakage are those of `front.evaluate`. A format is a name in
    `registry.PREDICTION_FORMATS` with one of `answers.frames` (None: the format's own).
    """

    predictions: BinaryIO
    truth: BinaryIO
    train: BinaryIO | None = None
    compare: BinaryIO | None = None
    anatomy: BinaryIO | None = None
    model: Path | None = None
    split: str | None = None
    allow_leakage: bool = False
    format: tuple[str, str | None] = ("jsonl", None)
    compare_format: tuple[str, str | None] = ("jsonl", None)
    coco_images: BinaryIO | None = None
    bad_lines: BadLines = field(default_factory=BadLines)


def evaluate_files(inputs: Inputs, names: Iterable[str], how: Resampling) -> Scores:
    """Return the scores of the files by each of the named protocols.

    All protocols must take the same kind of files.
    """
    chosen = [protocols.named(name) for name in names]
    with ExitStack() as stack:  # keeps heat maps open while they are scored
        records = READERS[chosen[0].takes](inputs, stack)
        if inputs.anatomy:
            check = anatomy.check_truth()
            records["anatomy"] = files.read(inputs.anatomy, Anatomy, inputs.bad_lines, check)
        return _evaluate(records, chosen, inputs, how)


def evaluate_probes(
    inputs: Inputs, load: robustness.Load, ground: robustness.Ground, how: Resampling
) -> Scores:
    """Return the scores of a model on perturbed images and phrases; `ground` calls the model."""
    records = {name: read_phrases(inputs, name) for name in ("truth", "train")}
    predict = partial(robustness.probe, load=load, ground=ground)
    return _evaluate({"predictions": predict, **records}, [PROBES], inputs, how)


def _evaluate(records: dict[str, Any], chosen: Sequence[Any], inputs: Inputs, how: Resampling) -> Scores:
    return front.evaluate(
        protocols=chosen,
        draws=how.draws,
        seed=how.seed,
        split=inputs.split,
        model=inputs.model,
        allow_leakage=inputs.allow_leakage,
        **records,
    )


def read_phrases(inputs: Inputs, name: str) -> Records[Phrase] | None:
    """Return the phrases of a file of the inputs, None if it is not given."""
    return read_truth(getattr(inputs, name), inputs.bad_lines)


def read_truth(stream: BinaryIO | None, bad_lines: BadLines) -> Records[Phrase] | None:
    """Return the phrases of a file, None without a file."""
    return files.read(stream, Phrase, bad_lines, phrases.check_truth()) if stream else None


def _read_phrases(inputs: Inputs, stack: ExitStack) -> dict[str, Any]:
    truth, train = (read_phrases(inputs, name) for name in ("truth", "train"))
    listed = coco_results.image_names(inputs.coco_images) if inputs.coco_images else None
    own, other = (
        stream and predictions.read(stream, *form, truth or [], inputs.bad_lines, listed)
        for stream, form in ((inputs.predictions, inputs.format), (inputs.compare, inputs.compare_format))
    )
    return {"predictions": own, "truth": truth, "train": train, "compare": other}


def _read_heatmaps(inputs: Inputs, stack: ExitStack) -> dict[str, Any]:
    own, other = (
        stream and stack.enter_context(heatmap_files.opened(Path(jsonl.name_of(stream))))
        for stream in (inputs.predictions, inputs.compare)
    )
    truth, train = (read_phrases(inputs, name) for name in ("truth", "train"))
    return {"predictions": own, "truth": truth, "train": train, "compare": other}


def _read_records(
    inputs: Inputs,
    stack: ExitStack,
    kind: type[Any],
    check_truth: Callable[[], Callable[[Any], None]],
    check_prediction: Callable[[Any], Callable[[Any], None]],
    predicted: type[Any] | None = None,
) -> dict[str, Any]:
    """Return the records of all files: of `kind`, predictions of `predicted` if that differs."""
    truth, train = (
        stream and files.read(stream, kind, inputs.bad_lines, check_truth())
        for stream in (inputs.truth, inputs.train)
    )
    own, other = (
        stream and files.read(stream, predicted or kind, inputs.bad_lines, check_prediction(truth or []))
        for stream in (inputs.predictions, inputs.compare)
    )
    return {"predictions": own, "truth": truth, "train": train, "compare": other}


READERS: dict[str, Callable[[Inputs, ExitStack], dict[str, Any]]] = {
    "phrases": _read_phrases,
    "anatomy": partial(
        _read_records,
        kind=Anatomy,
        check_truth=anatomy.check_truth,
        check_prediction=anatomy.check_prediction,
    ),
    "heatmaps": _read_heatmaps,
    "labels": partial(
        _read_records,
        kind=Label,
        check_truth=classification.check_truth,
        check_prediction=classification.check_prediction,
        predicted=Classification,
    ),
    "masks": partial(
        _read_records,
        kind=Mask,
        check_truth=segmentation.check_truth,
        check_prediction=segmentation.check_prediction,
    ),
    "reports": partial(
        _read_records,
        kind=Report,
        check_truth=written.check_truth,
        check_prediction=written.check_prediction,
    ),
    "questions": partial(
        _read_records,
        kind=Question,
        check_truth=answers.check_truth,
        check_prediction=answers.check_prediction,
        predicted=Answer,
    ),
}
