"""Linear probes: shares by patient, fits against slow references, and the command."""

import json

import labeled
import numpy as np
import pytest
import torch
import toy
from click.testing import CliRunner

from medground import site_key
from medground.cli.main import cli
from medground.downstream import fits, label_table, probe, splits
from medground.errors import BadRecord, MedgroundError
from medground.models import grounder
from medground.records import Label


def label(n, split, states=(1, 0), subject=None):
    subject = f"p{n // 2}-{split}" if subject is None else subject
    names = dict(zip(("a", "b"), states, strict=True))
    return Label(image_id=f"i{n}", subject_id=subject, path=f"{n}.png", labels=names, split=split)


def table(count=200):
    splits = [("train", "train", "val", "test")[n // 2 % 4] for n in range(count)]
    return label_table.of([label(n, split, (n % 2, n % 3 == 0)) for n, split in enumerate(splits)])[0]


# Shares and splits


def test_a_share_is_one_of_patients_and_smaller_ones_are_parts_of_it():
    found = table()
    patients = {row: found.labels[row].subject_id for row in found.rows["train"]}
    for seed in range(3):
        small, large = (set(found.share(share, seed)) for share in (0.1, 0.5))
        assert small < large
        assert len({patients[row] for row in small}) == 5 and len({patients[row] for row in large}) == 25
        assert {row for row in patients if patients[row] in {patients[each] for each in small}} == small
    assert set(found.share(0.1, 0)) != set(found.share(0.1, 1))
    assert set(found.share(1.0, 0)) == set(patients)
    assert len(found.share(1e-6, 0)) == 2, "one patient at least"


def test_a_share_has_both_spellings_of_its_patients():
    labels = [label(n, "train", subject="p" * (n % 2) + str(100 + n // 2)) for n in range(40)]
    for seed in range(3):
        rows = splits.share_of(labels, np.arange(40), 0.2, seed)
        assert (
            sorted({n // 2 for n in rows.tolist()}) == [n // 2 for n in rows.tolist()[::2]] and len(rows) == 8
        )


def test_features_are_of_the_files_and_not_only_of_their_names(tmp_path):
    found, folders = table(8), [tmp_path / name for name in ("one", "copy", "other")]
    for folder, pixels in zip(folders, (b"dark", b"dark", b"bright"), strict=True):
        folder.mkdir()
        (folder / "7.png").write_bytes(pixels)
    one, copy, other = map(found.digest, folders)
    assert one == copy != other


def test_a_patient_in_two_splits_is_refused():
    mixed = [label(0, "train"), label(2, "val"), label(4, "test", subject="p0-train")]
    with pytest.raises(MedgroundError, match="1 subject is in both training and test"):
        label_table.of(mixed)
    assert label_table.of(mixed, allow_leakage=True)[1] is True


@pytest.mark.parametrize("missing", ["train", "val", "test"])
def test_every_split_is_needed(missing):
    rest = [label(2 * n, name) for n, name in enumerate({"train", "val", "test"} - {missing})]
    with pytest.raises(MedgroundError, match=f"no image is of {missing}"):
        label_table.of(rest)


def test_lines_with_other_classes_are_bad_lines():
    check = label_table.check()
    check(label(0, "train"))
    with pytest.raises(BadRecord, match="other classes"):
        check(Label(image_id="x", path="x", labels={"a": 1}))
    with pytest.raises(BadRecord, match="without a class"):
        label_table.check()(Label(image_id="x", path="x", labels={}))


# Fits


def given(seed=0, unknown=0.0, count=80, width=5):
    made = np.random.default_rng(seed)
    truth = made.normal(size=(width, 2))
    parts = []
    for _ in range(2):
        features = made.normal(size=(count, width)).astype(np.float32) * 3 + 1
        states = (features @ truth + made.normal(size=(count, 2)) > 0).astype(np.int8)
        states[made.random((count, 2)) < unknown] = label_table.UNKNOWN
        parts += [features, states]
    return fits.Given(*parts)


def slow_auroc(scores, states):
    pairs = [
        (a > b) + 0.5 * (a == b)
        for a, s in zip(scores, states, strict=True)
        for b, t in zip(scores, states, strict=True)
        if s == 1 and t == 0
    ]
    return np.mean(pairs) if pairs else None


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_auroc_is_the_share_of_pairs_in_order(seed):
    made = np.random.default_rng(seed)
    scores, states = made.integers(0, 5, 40).astype(float), made.integers(-1, 2, 40)
    assert fits.auroc(scores, states) == pytest.approx(slow_auroc(scores, states))
    assert fits.auroc(scores, np.ones(40)) is None


def test_ridge_solves_its_normal_equations():
    own = given(unknown=0.2)
    features, states = own.train.astype(float), own.states
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    known = states[:, 0] >= 0
    found = fits._ridge(scaled[known], states[known, 0].astype(float), 0.1)
    design = np.column_stack([scaled[known], np.ones(known.sum())])
    pull = design.T @ (design @ found - states[known, 0]) / known.sum()
    assert pull[:-1] + 0.1 * found[:-1] == pytest.approx(np.zeros(5), abs=1e-10)
    assert pull[-1] == pytest.approx(0, abs=1e-10)


@pytest.mark.slow
def test_logistic_regression_is_that_of_torch():
    own = given()
    features, outcome = own.train.astype(float), own.states[:, 0].astype(float)
    found = fits._logistic(features, outcome, 0.1)
    weights = torch.zeros(6, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-10
    )
    x, y = torch.tensor(features), torch.tensor(outcome)

    def closure():
        optimizer.zero_grad()
        logits = x @ weights[:-1] + weights[-1]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, y)
        loss = loss + 0.1 * weights[:-1].square().sum() / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    assert found == pytest.approx(weights.detach().numpy(), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", fits.FITS)
def test_every_fit_finds_a_linear_function_although_labels_are_unknown(name):
    own = given(unknown=0.3, count=1000)
    scores = fits.named(name)(own, 0)(own.val)
    least = 0.8 if name == "published" else 0.95  # 1000 steps of 5e-4 from random weights
    assert all(fits.auroc(scores[:, k], own.val_states[:, k]) > least for k in range(2))


@pytest.mark.slow
def test_an_unknown_label_is_not_one_of_absence():
    own = given(unknown=0.3)
    absent = fits.Given(own.train, own.states.clip(min=0), own.val, own.val_states.clip(min=0))
    for name in fits.FITS:
        assert not np.allclose(fits.named(name)(own, 0)(own.val), fits.named(name)(absent, 0)(own.val))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ridge", "logistic"])
def test_a_class_with_one_outcome_scores_all_images_alike(name):
    own = given()
    own.states[:, 1] = 0
    scores = fits.named(name)(own, 0)(own.val)
    assert len(np.unique(scores[:, 1])) == 1 and len(np.unique(scores[:, 0])) > 1


def test_the_published_fit_has_cross_entropy_for_classes_that_exclude_each_other():
    logits = torch.randn(6, 3)
    states = torch.eye(3, dtype=torch.int8)[[0, 1, 2, 0, 1, 2]]
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0, 1, 2]))
    assert torch.equal(fits._loss(logits, states, True), expected)


@pytest.mark.slow
def test_runs_are_written_one_after_the_other_for_validation_and_test():
    found = table(40)
    made = np.random.default_rng(0)
    lines = list(
        probe.predict(
            made.normal(size=(40, 4)).astype(np.float32), found, probe.Plan((0.5, 1.0), (0, 1)), "m", {}
        )
    )
    assert len(lines) == 4 * 20
    runs = [(each.extra["share"], each.extra["seed"]) for each in lines]
    assert list(dict.fromkeys(runs)) == [(0.5, 0), (0.5, 1), (1.0, 0), (1.0, 1)]
    assert {each.extra["split"] for each in lines} == {"val", "test"}


# The command


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    here = tmp_path_factory.mktemp("probe")
    (here / "images").mkdir()
    toy.make(here / "images", count=24)
    labeled.write(here / "images", here / "labels.jsonl")
    torch.manual_seed(0)
    grounder.save(here / "model", grounder.build("small", ["bright spot"], image_size=64))
    return here


def run(folder, *args):
    words = [
        "probe",
        f"{folder}/labels.jsonl",
        "--encoder",
        f"{folder}/model",
        "--images",
        f"{folder}/images",
    ]
    return CliRunner().invoke(cli, [*words, *args])


@pytest.mark.slow
def test_the_command_writes_predictions_that_evaluate_scores(folder, tmp_path):
    args = ["--share", "0.5", "--share", "1", "--seeds", "2", "--features", f"{tmp_path}/f.safetensors"]
    result = run(folder, *args, "-o", f"{tmp_path}/probed.jsonl")
    assert result.exit_code == 0, result.stderr
    again = run(folder, *args)
    assert again.stdout == (tmp_path / "probed.jsonl").read_text()
    first = json.loads(again.stdout.splitlines()[0])
    assert first["model"] == grounder.name_of(folder / "model") and first["layer"] == "encoder"
    words = ["evaluate", f"{tmp_path}/probed.jsonl", "--truth", f"{folder}/labels.jsonl", "--split", "test"]
    scored = CliRunner().invoke(cli, [*words, "--protocol", "classification", "--bootstrap-samples", "100"])
    assert scored.exit_code == 0, scored.stderr
    metrics = {json.loads(line)["metric"] for line in scored.stdout.splitlines()}
    assert metrics == {f"{name}{end}" for name in ("auroc", "ap", "f1") for end in ("", "@50%")}


@pytest.mark.parametrize(
    "line, problem",
    [
        ('{"image_id": "image0", "path": "x", "labels": {"Bright": 2}}', "labels"),
        ('{"image_id": "z", "path": "x", "labels": {"Dark": 1}}', "labels: other classes"),
        ('{"image_id": "z", "path": "x", "labels": {}}', "labels: an image without a class"),
    ],
)
def test_a_bad_label_is_one_message_with_its_place(folder, tmp_path, line, problem):
    labels = (folder / "labels.jsonl").read_text()
    (tmp_path / "labels.jsonl").write_text(labels + line + "\n")
    words = ["probe", f"{tmp_path}/labels.jsonl", "--encoder", f"{folder}/model"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 1 and f"labels.jsonl:25: {problem}" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_images_that_the_model_was_trained_on_are_refused(folder, tmp_path):
    model = grounder.load(folder / "model")
    key = site_key.find_or_create()
    record = {"subjects": sorted({key.digest("image2")}), "key": key.name}
    grounder.save(tmp_path / "trained", model, record)
    words = [
        "probe",
        f"{folder}/labels.jsonl",
        "--encoder",
        f"{tmp_path}/trained",
        "--images",
        f"{folder}/images",
    ]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 1 and "1 subject is in both test and the training data of" in result.stderr
    allowed = CliRunner().invoke(cli, [*words, "--allow-leakage"])
    assert json.loads(allowed.stdout.splitlines()[0])["leakage"] is True
