"""The protocol `classification`: predicted scores of classes against labels of images.

An item is one class on one image. Items with an uncertain label or none are left out.
auroc     area under the ROC curve, ties as one half
ap        average precision without interpolation, as scikit-learn computes it
f1        F1 at the threshold with the best F1 on the images of the split "val", for each class and run;
          only with --split and predictions for "val"
accuracy  share of images whose class has the highest score; only if each image has exactly one class

Runs of one share of the labels are averaged; a share below 1 is part of the name, as in `auroc@10%`.
Intervals are over draws of patients. Groups: `all` (every item: micro), `macro` (mean over classes),
`class:NAME`. A class with one outcome has no auroc and is left out of `macro`, with a warning.

Letters: N items, K classes, M images.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medground import registry
from medground.errors import BadRecord
from medground.evaluation import sources
from medground.evaluation.image_facts import agreeing
from medground.evaluation.prepared import Kind, Prepared
from medground.evaluation.presence import Auc
from medground.evaluation.report.pictures import Galleries, no_galleries
from medground.evaluation.runs import Run, by_run, matched, of_shares, run_of
from medground.evaluation.stats import groups, scoring
from medground.evaluation.stats.bootstrap import Array
from medground.evaluation.stats.classes import AveragePrecision, MeanOf
from medground.evaluation.stats.figures import Ratio, mean_over
from medground.evaluation.stats.scoring import Figures, Measured
from medground.records import Classification, Label
from medground.thresholds import best_threshold

log = logging.getLogger(__name__)
Runs = Mapping[Run, Mapping[str, Classification]]  # the predictions of each run by image_id


@dataclass(kw_only=True)
class LabelData(Prepared):
    """Labeled images, those that set thresholds, and the runs of a model and of another one."""

    scored: Sequence[Label]
    train: Sequence[Label] | None = None
    validation: Sequence[Label] = ()
    own: Runs
    other: Runs | None = None


def prepare(
    predictions: Iterable[Classification],
    truth: Iterable[Label],
    train: Iterable[Label] | None,
    compare: Iterable[Classification] | None,
    split: str | None,
) -> LabelData:
    """Return the images of the split with the scores predicted for them.

    Raises MedgroundError for an image without a prediction, and for a class without a score.
    """
    known = sources.checked(truth, "truth", check_truth())
    scored = sources.of_split(known, split, sources.name_of(truth, "truth"), "image")
    own = sources.checked(predictions, "predictions", check_prediction(known))
    other = None if compare is None else sources.checked(compare, "compare", check_prediction(known))
    return LabelData(
        scored=scored,
        train=None if train is None else sources.checked(train, "train", check_truth()),
        elsewhere=sources.outside(known, split),
        validation=[each for each in known if split not in (None, "val") and each.split == "val"],
        own=_runs(own, scored, sources.name_of(predictions, "predictions")),
        other=None if other is None else _runs(other, scored, sources.name_of(compare, "compare")),
        predictions=own,
        compared=other or [],
        rules=sources.rules(scored, split),
    )


def check_truth() -> Callable[[Label], None]:
    """Return a check that raises BadRecord for a second line of an image, and for other classes."""
    seen, classes = set[str](), list[frozenset[str]]()

    def check(label: Label) -> None:
        if label.image_id in seen:
            raise BadRecord("the second line with this image", "image_id")
        seen.add(label.image_id)
        if not label.labels:
            raise BadRecord("an image without a class", "labels")
        classes.append(frozenset(label.labels)) if not classes else None
        if classes[0] != label.labels.keys():
            raise BadRecord(
                "other classes than in the first line; null is a class that is not stated", "labels"
            )

    return agreeing(check)


def check_prediction(truth: Sequence[Label]) -> Callable[[Classification], None]:
    """Return a check that raises BadRecord for an unknown image, a second line of a run, a missing class."""
    known, seen = {each.image_id: each.labels.keys() for each in truth}, set[tuple[str, Run]]()

    def check(found: Classification) -> None:
        if found.image_id not in known:
            raise BadRecord("the truth has no such image", "image_id")
        if missing := sorted(known[found.image_id] - found.scores.keys()):
            raise BadRecord("a class of the truth has no score", "scores", missing[0])
        for name, score in found.scores.items():
            if not np.isfinite(score):
                raise BadRecord("expected a finite number", "scores", name)
        key = found.image_id, run_of(found)
        if key in seen:
            raise BadRecord("the second line with this image, share and seed", "image_id")
        seen.add(key)

    return agreeing(check, truth)


def _runs(found: Iterable[Classification], scored: Sequence[Label], source: str) -> Runs:
    named = ((each.image_id, each) for each in found)
    return by_run(named, [each.image_id for each in scored], source, "images")


@dataclass(frozen=True, slots=True)
class _Items:
    """The N known items of M images: their image's row and class, and whether the class is present."""

    labels: Sequence[Label]
    classes: Sequence[str]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    true: NDArray[np.bool_]

    @classmethod
    def of(cls, labels: Sequence[Label], classes: Sequence[str]) -> "_Items":
        """Return the items of these images whose label is 1 or 0."""
        states = [[label.labels.get(name) for name in classes] for label in labels]
        table = np.array([[-1 if each is None else each for each in row] for row in states], dtype=np.int64)
        table = table.reshape(len(labels), len(classes))
        rows, columns = np.nonzero(table >= 0)
        return cls(labels, classes, rows, columns, table[rows, columns] > 0)

    def scores(self, run: Mapping[str, Classification]) -> Array:
        """Return the (N,) scores of a run."""
        found = [[run[label.image_id].scores[name] for name in self.classes] for label in self.labels]
        return np.array(found, dtype=float).reshape(len(self.labels), -1)[self.rows, self.columns]


@dataclass(frozen=True, slots=True)
class ClassificationProtocol:
    """The protocol: figures of classes, and of whole images if classes exclude each other."""

    name: str = "classification"
    takes: Kind = registry.PROTOCOLS["classification"].reads

    def measure(self, data: LabelData) -> Sequence[Measured]:
        """Return the figures over items, and over images."""
        classes = list(data.scored[0].labels) if data.scored else []
        items, tuned = _Items.of(data.scored, classes), _Items.of(data.validation, classes)
        _warn_of_one_outcome(items)
        owners = scoring.clusters(data.scored)
        parted = groups.of_names("class", [classes[each] for each in items.columns])
        measured = Measured(
            protocol=self.name,
            groups=parted,
            owners=owners[items.rows],
            counts=parted.counts,
            own=_figures(data.own, items, tuned),
            other=None if data.other is None else _figures(data.other, items, tuned),
            clusters=int(owners.max(initial=-1)) + 1,
        )
        return [matched(measured), *_of_images(data, classes, owners)]

    def galleries(self, data: LabelData) -> Galleries:
        """Return no pictures: nothing of a class has a place."""
        return no_galleries


CLASSIFICATION = ClassificationProtocol()


def _figures(runs: Runs, items: _Items, tuned: _Items) -> Figures:
    """Return the figures of each share, over its seeds."""
    found: dict[str, scoring.Bindable] = {}
    for end, own in of_shares(runs).items():
        scores = [items.scores(run) for run in own]
        found[f"auroc{end}"] = MeanOf([Auc(each, items.true) for each in scores])
        found[f"ap{end}"] = MeanOf([AveragePrecision(each, items.true) for each in scores])
        if all(label.image_id in run for run in own for label in tuned.labels) and len(tuned.rows):
            parts = [_f1(each, items, _thresholds(run, tuned)) for each, run in zip(scores, own, strict=True)]
            found[f"f1{end}"] = Ratio(parts)
    return found


def _thresholds(run: Mapping[str, Classification], tuned: _Items) -> Array:
    """Return the (K,) thresholds with the best F1 on the validation images."""
    scores = tuned.scores(run)
    of_class = [tuned.columns == k for k in range(len(tuned.classes))]
    return np.array([best_threshold(scores[own], tuned.true[own]) for own in of_class])


def _f1(scores: Array, items: _Items, thresholds: Array) -> tuple[Array, Array]:
    """Return the (N,) numerators and denominators of F1 = 2 TP / (positives + predicted positives)."""
    yes, true = (scores >= thresholds[items.columns]).astype(float), items.true.astype(float)
    return 2 * yes * true, yes + true


def _of_images(data: LabelData, classes: Sequence[str], owners: NDArray[np.int64]) -> list[Measured]:
    """Return the accuracy over images if each has exactly one class."""
    wanted = np.array([[label.labels[name] == 1 for name in classes] for label in data.scored], dtype=bool)
    if len(classes) < 2 or not len(wanted) or not (wanted.sum(axis=1) == 1).all():
        return []
    if any(None in label.labels.values() or -1 in label.labels.values() for label in data.scored):
        return []
    truth = wanted.argmax(axis=1)

    def accuracy(runs: Runs) -> Figures:
        found: dict[str, list[Array]] = {}
        for end, own in of_shares(runs).items():
            for run in own:
                table = np.array([[run[e.image_id].scores[name] for name in classes] for e in data.scored])
                found.setdefault(f"accuracy{end}", []).append(table.argmax(axis=1) == truth)
        return {name: mean_over(np.mean(each, axis=0)) for name, each in found.items()}

    one_group = groups.build([], len(wanted), "-")
    other = None if data.other is None else accuracy(data.other)
    return [
        matched(
            Measured("classification", one_group, owners, one_group.counts, accuracy(data.own), other=other)
        )
    ]


def _warn_of_one_outcome(items: _Items) -> None:
    """Warn of classes that all known images have, or none."""
    there = [{*items.true[items.columns == k].tolist()} for k in range(len(items.classes))]
    lone = [name for name, found in zip(items.classes, there, strict=True) if len(found) < 2]
    if lone and items.labels:
        log.warning(
            "%d classes have one outcome only and no auroc; macro leaves them out: %s",
            len(lone),
            ", ".join(lone),
        )
