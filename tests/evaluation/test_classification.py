"""The protocol `classification` against torchmetrics, which follows scikit-learn, and against loops."""

import json
import random

import numpy as np
import pytest
from click.testing import CliRunner

import medground
from medground.cli.main import cli
from medground.errors import BadRecord, MedgroundError
from medground.records import Classification, Label
from medground.thresholds import best_threshold

CLASSES = ("Edema", "Mass", "Hernia")


def labels(count=60, seed=0, unknown=True):
    made, found = random.Random(seed), []
    for n in range(count):
        states = [1, 0, 0, -1, None] if unknown else [1, 0]
        found.append(
            Label(
                image_id=f"i{n}",
                subject_id=f"p{n // 2}",
                path=f"{n}.png",
                labels={name: made.choice(states) for name in CLASSES},
                split="test" if n % 4 else "val",
                split_by="patients 0:50:50, seed 0",
            )
        )
    return [each for each in found if int(each.subject_id[1:]) % 2 == (each.split == "test")]


def predictions(truth, start=0, **extra):
    made = random.Random(start + 100)
    return [
        Classification(
            image_id=each.image_id,
            scores={name: round(made.random() + 0.3 * (each.labels[name] or 0), 1) for name in CLASSES},
            model="m",
            extra=extra,
        )
        for each in truth
    ]


def by_metric(scores):
    return {(each.metric, each.group): each for each in scores}


def evaluate(found, truth, **more):
    return by_metric(medground.evaluate(found, truth, ["classification"], draws=100, **more))


def known(truth, found, name):
    pairs = [
        (f.scores[name], t.labels[name])
        for t, f in zip(truth, found, strict=True)
        if t.labels[name] in (0, 1)
    ]
    return np.array([score for score, _ in pairs]), np.array([state for _, state in pairs])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_figures_are_those_of_torchmetrics(seed):
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    import torch

    truth = labels(seed=seed)
    found = predictions(truth, seed)
    scores = evaluate(found, truth)
    each = {"auroc": [], "ap": []}
    for name in CLASSES:
        own, true = (torch.tensor(values) for values in known(truth, found, name))
        own = own / 2  # torchmetrics takes probabilities
        each["auroc"].append(metrics.binary_auroc(own, true).item())
        each["ap"].append(metrics.binary_average_precision(own, true).item())
        for metric, values in each.items():
            assert scores[metric, f"class:{name}"].value == pytest.approx(values[-1], abs=1e-6)
        assert scores["auroc", f"class:{name}"].n == len(own)
    for metric, values in each.items():
        assert scores[metric, "macro"].value == pytest.approx(np.mean(values), abs=1e-6)


def slow_ap(scores, true):
    """Precision times gain of recall, threshold by threshold."""
    found, before = 0.0, 0.0
    for threshold in sorted({*scores}, reverse=True):
        taken = scores >= threshold
        recall = true[taken].sum() / true.sum()
        found += (recall - before) * true[taken].mean()
        before = recall
    return found


def test_intervals_are_over_patients_and_paired(monkeypatch):
    truth = labels()
    own, other = predictions(truth, 1), predictions(truth, 2)
    scores = evaluate(own, truth, compare=other)
    same = evaluate(own, truth, compare=own)
    assert same["difference_auroc", "macro"].value == 0 and same["difference_ap", "macro"].high == 0
    for metric in ("auroc", "ap"):
        one, two, apart = (scores[f"{prefix}{metric}", "macro"] for prefix in ("", "other_", "difference_"))
        assert apart.value == pytest.approx(one.value - two.value, abs=1e-9)
        assert apart.low < apart.value < apart.high and 0 < apart.extra["p"] <= 1
    name = "class:Mass"
    pairs = known(truth, own, "Mass")
    assert scores["ap", name].value == pytest.approx(slow_ap(*pairs), abs=1e-9)
    assert scores["ap", name].extra["split_by"] == "patients 0:50:50, seed 0"


def test_runs_of_a_share_are_averaged_and_shares_are_apart():
    truth = labels()
    runs = [predictions(truth, seed, share=0.1, seed=seed) for seed in range(3)]
    whole = predictions(truth, 7, share=1.0, seed=0)
    scores = evaluate([each for run in (*runs, whole) for each in run], truth)
    alone = [evaluate(run, truth)["auroc@10%", "macro"].value for run in runs]
    assert scores["auroc@10%", "macro"].value == pytest.approx(np.mean(alone), abs=1e-9)
    assert scores["auroc", "macro"].value == evaluate(whole, truth)["auroc", "macro"].value


def slow_f1(scores, true, threshold):
    yes = scores >= threshold
    return 2 * (yes & (true == 1)).sum() / (yes.sum() + (true == 1).sum())


def test_f1_has_the_threshold_of_the_validation_images():
    truth = labels(240)
    found = predictions(truth, 3)
    scores = evaluate(found, truth, split="test")
    parts = {}
    for part in ("val", "test"):
        kept = [n for n, each in enumerate(truth) if each.split == part]
        parts[part] = [truth[n] for n in kept], [found[n] for n in kept]
    for name in CLASSES:
        val, test = known(*parts["val"], name), known(*parts["test"], name)
        best = max(sorted({*val[0]}), key=lambda t: (round(slow_f1(*val, t), 12), t))
        assert best_threshold(val[0], val[1] == 1) == best
        assert scores["f1", f"class:{name}"].value == pytest.approx(slow_f1(*test, best), abs=1e-9)
    assert scores["f1", "macro"].extra["split"] == "test"
    assert ("f1", "macro") not in evaluate(found, truth)


def test_a_class_with_one_outcome_is_left_out_and_named(caplog):
    truth = [
        Label(image_id=f"i{n}", path="x", labels={"Edema": n % 2, "Mass": 0}, subject_id=f"p{n}")
        for n in range(12)
    ]
    found = [Classification(image_id=f"i{n}", scores={"Edema": n, "Mass": n}, model="m") for n in range(12)]
    scores = evaluate(found, truth)
    assert scores["auroc", "class:Mass"].value is None
    assert scores["auroc", "macro"].value == scores["auroc", "class:Edema"].value
    assert "1 classes have one outcome only" in caplog.text


def test_classes_that_exclude_each_other_have_an_accuracy():
    truth = [
        Label(
            image_id=f"i{n}", path="x", labels={"a": int(n % 3 == 0), "b": int(n % 3 > 0)}, subject_id=f"p{n}"
        )
        for n in range(30)
    ]
    found = [Classification(image_id=f"i{n}", scores={"a": n % 2, "b": 0.5}, model="m") for n in range(30)]
    right = sum((n % 2 == 1) == (n % 3 == 0) for n in range(30)) / 30
    assert evaluate(found, truth)["accuracy", "all"].value == pytest.approx(right)


@pytest.mark.parametrize(
    "change, problem",
    [
        (lambda f: f[:-1], "no prediction for 1 of"),
        (lambda f: [*f, f[0]], "image_id: the second line with this image, share and seed"),
        (lambda f: [*f, Classification(image_id="z", scores={}, model="m")], "the truth has no such image"),
        (
            lambda f: [Classification(image_id=f[0].image_id, scores={"Edema": 1}, model="m")],
            "scores.Hernia: a class",
        ),
        (
            lambda f: [
                Classification(image_id=f[0].image_id, scores=f[0].scores | {"Mass": float("nan")}, model="m")
            ],
            "scores.Mass: expected a finite number",
        ),
        (
            lambda f: [Classification(**{**_fields(f[0]), "extra": {"share": 0}})],
            "share: expected a share above 0",
        ),
    ],
)
def test_predictions_that_do_not_fit_are_refused(change, problem):
    truth = labels()
    with pytest.raises(MedgroundError, match=problem):
        evaluate(change(predictions(truth)), truth)


def _fields(record):
    return {name: getattr(record, name) for name in ("image_id", "scores", "model")}


def test_labels_of_other_classes_are_refused():
    truth = labels()
    other = Label(image_id="z", path="z", labels={"Edema": 1})
    with pytest.raises(BadRecord, match="other classes than in the first line"):
        evaluate(predictions(truth), [*truth, other])


def test_a_patient_in_two_splits_is_refused(tmp_path):
    truth = labels()
    mixed = [
        *truth,
        Label(
            image_id="z",
            subject_id=next(e for e in truth if e.split == "test").subject_id,
            path="z",
            labels=dict.fromkeys(CLASSES, 0),
            split="train",
        ),
    ]
    with pytest.raises(MedgroundError, match="1 subject is in both the scored records and another split"):
        evaluate(predictions(mixed), mixed, split="test")
    scores = evaluate(predictions(mixed), mixed, split="test", allow_leakage=True)
    assert scores["auroc", "macro"].extra["leakage"] is True


def test_the_command_scores_files(tmp_path):
    truth = labels()
    for name, records in (("truth", truth), ("found", predictions(truth))):
        medground.write(tmp_path / f"{name}.jsonl", records)
    result = CliRunner().invoke(
        cli,
        [
            "evaluate",
            f"{tmp_path}/found.jsonl",
            "--truth",
            f"{tmp_path}/truth.jsonl",
            "--protocol",
            "classification",
            "--split",
            "test",
            "--bootstrap-samples",
            "100",
        ],
    )
    assert result.exit_code == 0, result.stderr
    first = json.loads(result.stdout.splitlines()[0])
    assert (first["protocol"], first["split"], first["model"]) == ("classification", "test", "m")
    assert first["split_by"] == "patients 0:50:50, seed 0"
