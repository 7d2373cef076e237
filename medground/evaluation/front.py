"""The public function of evaluation: it returns the scores of predictions.

Everything here works on records. `inputs` makes records of files, and `report` makes tables and pages of
scores.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, overload

import medground
from medground import leakage
from medground.errors import MedgroundError
from medground.evaluation import baseline, coverage, phrases, prepared, protocols, sources
from medground.evaluation.prepared import Kind, Prepared
from medground.evaluation.protocols import Protocol
from medground.evaluation.report.pictures import Galleries, no_galleries
from medground.evaluation.stats import scoring
from medground.evaluation.stats.scoring import Resampling
from medground.records import Anatomy, Label, Phrase, Question, Report, Score

log = logging.getLogger(__name__)
# The module whose `prepare` pairs the records of a kind. Only that of the chosen protocols is imported.
PREPARED_BY: Mapping[Kind, str] = {
    "phrases": "phrases",
    "anatomy": "anatomy",
    "heatmaps": "heatmaps",
    "labels": "classification",
    "masks": "segmentation",
    "questions": "answers",
    "reports": "written",
    "perturbations": "perturbations",
}


@dataclass(frozen=True)
class Scores(Sequence[Score]):
    """The scores of an evaluation, and the functions that make the pictures of its page."""

    scores: Sequence[Score]
    galleries: Galleries = no_galleries

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[Score]:
        return iter(self.scores)

    @overload
    def __getitem__(self, place: int) -> Score: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Score]: ...
    def __getitem__(self, place: int | slice) -> Score | Sequence[Score]:
        return self.scores[place]


def evaluate(
    predictions: Any,
    truth: Iterable[Phrase] | Iterable[Anatomy] | Iterable[Label] | Iterable[Question] | Iterable[Report],
    protocols: Sequence[str | Protocol] = ("single-box",),
    train: Iterable[Phrase] | Iterable[Anatomy] | Iterable[Question] | Iterable[Report] | None = None,
    *,
    compare: Any = None,
    anatomy: Iterable[Anatomy] | None = None,
    draws: int = 10_000,
    seed: int = 0,
    split: str | None = None,
    model: str | Path | None = None,
    allow_leakage: bool = False,
) -> Scores:
    """Return the scores of predictions by each protocol, with 95 % intervals over draws of patients.

    predictions, compare: Grounding records with boxes in original pixels, for protocols over phrases.
        Anatomy records for the protocol "anatomy", Classification records for "classification", Answer
        records for "answers", Report records for "reports". For
        "heatmap" a mapping of phrase_id, or "image_id/phrase_id", to an (h, w) array over the whole image.
        compare is another model's.
    truth: Phrase records with boxes, Anatomy records, Label records, Question records, or Report records.
    protocols: names in `registry.PROTOCOLS`, or objects; all must take the same kind of predictions.
    train: training records, which fit the image-free baseline.
    anatomy: regions of the scored and the training images, for the anatomy-relative baseline.
    split: score only this split of the truth; use only the split "train" of train.
    model: the folder of the model, whose training subjects must not be scored.

    Raises MedgroundError for records that do not fit together, and for patients that leak from training to
    truth. With allow_leakage they are scored and each score is marked.
    """
    chosen = [_protocol(each) for each in protocols]
    kind = _common_kind(chosen)
    data = _prepare(kind)(predictions, truth, train, compare, split)
    _place(data, anatomy)
    leaky = _leaks(data, model, allow_leakage)
    scoring.warn_of_lone_images(data.scored)
    measured = [one for protocol in chosen for one in protocol.measure(data)]
    _warn_of_models(data, predictions=predictions, compare=compare)
    stated = coverage.stated(data.predictions)
    if model is not None:
        leakage.warn_of_another_model(Path(model), data.models())
    origin = _origin(
        data, leaky, predictions=predictions, truth=truth, train=train, compare=compare, anatomy=anatomy
    )
    how = Resampling(draws, seed, origin | data.about() | stated | {"draws": draws, "seed": seed})
    batches = [measured]
    if stated and isinstance(data, phrases.PhraseData):
        batches.append([coverage.measure(data.own)])
    found = [score for batch in batches for some in scoring.score_all(batch, how) for score in some]
    return Scores(found, chosen[0].galleries(data))


def _warn_of_models(data: Prepared, **inputs: Any) -> None:
    """Warn of a file with predictions of several models."""
    for (name, records), found in zip(inputs.items(), (data.predictions, data.compared), strict=True):
        if len(models := prepared.models_of(found)) > 1:
            log.warning(
                "%s: predictions of %d models; the figures are of all together, as for a cross-validation",
                *(sources.name_of(records, name), len(models)),
            )


def _prepare(kind: Kind) -> Callable[..., Prepared]:
    prepare: Callable[..., Prepared] = import_module(f"medground.evaluation.{PREPARED_BY[kind]}").prepare
    return prepare


def _place(data: Prepared, anatomy: Iterable[Anatomy] | None) -> None:
    """Add the lungs of the images to the data; raise MedgroundError if they cannot be used."""
    if anatomy is None:
        return
    if not isinstance(data, phrases.PhraseData) or data.train is None:
        raise MedgroundError("--anatomy places the boxes of --train: give both, with a protocol over phrases")
    data.lungs = baseline.lungs_of(anatomy)
    if lacking := len({each.image_id for each in data.scored} - data.lungs.keys()):
        log.warning("--anatomy has no lungs of %d scored images: they get the image-free box", lacking)


def _protocol(named: str | Protocol) -> Protocol:
    return protocols.named(named) if isinstance(named, str) else named


def _common_kind(chosen: Sequence[Protocol]) -> Kind:
    kinds = {each.takes for each in chosen}
    if len(kinds) != 1:
        raise MedgroundError(f"protocols must read the same kind of predictions, got {sorted(kinds)}")
    return kinds.pop()


def _leaks(data: Prepared, model: str | Path | None, allowed: bool) -> bool:
    """Return whether training patients are scored, or whether the model's own training leaked."""
    record = leakage.training_record(Path(model)) if model is not None else {}
    scored = "the scored records"
    others = {
        "--train": leakage.Patients.of(data.train or ()),
        "another split of --truth": leakage.Patients.of(data.elsewhere),
        "the training data of --model": leakage.Patients.trained(record),
    }
    leaks = [
        leak
        for name, patients in others.items()
        for leak in leakage.overlap(data.scored, patients, f"{scored} and {name}", scored)
    ]
    found = leakage.check(leaks, allowed, "leave them out of one, or give --allow-leakage")
    return found | leakage.is_marked(record, [*data.predictions, *data.compared])


def _origin(data: Prepared, leaky: bool, **inputs: Any) -> dict[str, Any]:
    """Return the keys of each score that state its origin: hashes of files, models, our version, leakage."""
    models = {"model": ",".join(sorted(names))} if (names := data.models()) else {}
    marks = {"leakage": True} if leaky else {}
    return sources.origin_of(**inputs) | models | {"medground": medground.__version__} | marks
