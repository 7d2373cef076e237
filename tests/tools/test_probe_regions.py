"""The read-out of regions in closed form, beside slow references."""

import json
from pathlib import Path

import numpy as np
import pytest
import toy
from tool_runs import run, tool

from medground import checkpoints, jsonl
from medground.models import lite
from medground.objectives import knowledge
from medground.records import Sentence, Triplet

LEARNED, TESTED, WIDTH = 30, 12, 3


@pytest.fixture(scope="module")
def module():
    return tool("probe_regions")


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    """Two kinds of features of each image; some images lack the first."""
    found = np.random.default_rng(0).normal(size=(LEARNED + TESTED, 2, WIDTH))
    found[::5, 0] = 0
    return found


def weighted(features: np.ndarray, outcome: np.ndarray, penalty: float) -> np.ndarray:
    """Return the weights of a ridge regression by its normal equations."""
    gram = features.T @ features + penalty * np.eye(features.shape[1])
    return np.linalg.solve(gram, features.T @ outcome)


def side_by_side(features: np.ndarray) -> np.ndarray:
    """Return the standardized features of each image and a 1, with a mean square of 1."""
    rows = []
    for part in (features[:, 0], features[:, 1]):
        there = part.any(axis=1)
        known = part[:LEARNED][there[:LEARNED]]
        rows.append(np.where(there[:, None], (part - known.mean(axis=0)) / known.std(axis=0), 0))
    found = np.hstack([*rows, np.ones((len(features), 1))])
    return found / np.sqrt((found[:LEARNED] ** 2).sum(axis=1).mean())


def test_the_read_out_is_a_ridge_regression_on_regions_side_by_side(module, features, monkeypatch):
    monkeypatch.setattr(module, "PENALTIES", [0.3])
    labels = (np.random.default_rng(1).random((LEARNED + TESTED, 1)) > 0.5).astype(float)
    kernels = [module.kernel(features[:, n], LEARNED) for n in range(2)]
    found = module.read_out(kernels, [(0, 1)], labels, LEARNED)[1][:, 0]
    known = side_by_side(features)
    slow = known[LEARNED:] @ weighted(known[:LEARNED], labels[:LEARNED, 0] - labels[:LEARNED].mean(), 0.3)
    assert found == pytest.approx(slow, abs=1e-9)


def test_the_penalty_is_chosen_by_scores_of_images_left_out(module, features):
    labels = (np.random.default_rng(2).random(LEARNED) > 0.5).astype(float)
    known, outcome, slow = side_by_side(features)[:LEARNED], labels - labels.mean(), []
    for row in range(LEARNED):
        rest = np.arange(LEARNED) != row
        slow.append(known[row] @ weighted(known[rest], outcome[rest], 0.3))
    values, vectors = np.linalg.eigh(known @ known.T)
    assert module.left_out(values, vectors, outcome, 0.3) == pytest.approx(np.array(slow), abs=1e-9)


def test_evidence_is_the_ratio_of_two_normal_densities(module):
    from scipy.stats import norm

    known = np.array([[0.0], [2.0], [4.0], [5.0], [6.0], [7.0], [99.0]])
    labels = np.array([[0.0], [0.0], [0.0], [1.0], [1.0], [1.0], [-1.0]])
    spread = np.sqrt((8 + 2) / 6)
    for score in (1.0, 4.5):
        slow = norm(6, spread).logpdf(score) - norm(2, spread).logpdf(score)
        assert module.evidence(known, np.array([[score]]), labels).item() == pytest.approx(slow)


def test_a_finding_of_two_training_images_is_no_evidence(module):
    known, labels = np.arange(8.0)[:, None], (np.arange(8.0) > 5)[:, None].astype(float)
    assert not module.evidence(known, known, labels).any()


def test_an_image_matches_if_its_own_findings_have_more_evidence_than_the_next_ones(module):
    odds = np.array([[2.0, -1.0], [-1.0, 3.0], [1.0, 1.0]])
    labels = np.array([[0.0, 1.0], [1.0, -1.0], [1.0, 0.0]])
    # the other report: [1, 0] of the third, [0, 1] of the first, [1, 0] of the second, which is equal
    assert module.matching(odds, labels).tolist() == [0.0, 0.0, 0.5]
    assert module.matching(-odds, labels).tolist() == [1.0, 1.0, 0.5]


def sentence_of(pair: dict, finding: str) -> Sentence:
    """Return the sentence of a pair, with another finding."""
    found = dict(region=None, region_span=None, finding=finding, finding_span=(0, 1), existence="present")
    triplet = Triplet(**found, cue=None, cue_span=None, region_source="none", rule="test")
    place = dict(section="findings", start=0, end=1, sentence_id="1")
    return Sentence(study_id=pair["study_id"], text=pair["text"], triplets=[triplet], **place)


@pytest.mark.slow
def test_each_kind_of_features_has_a_row(module, tmp_path, monkeypatch, capsys):
    made, encoder = toy.make(tmp_path, count=16), tmp_path / "lite0"
    encoder.mkdir()
    (encoder / "config.json").write_text(json.dumps({"model_type": lite.MODEL_TYPE}))
    (encoder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5], "image_std": [0.5]}))
    checkpoints.save(encoder / "model.safetensors", lite.Lite().state_dict(), {})
    monkeypatch.setattr(module, "DRAWS", 5)
    lines = Path(made.anatomy).read_text().splitlines(keepends=True)
    (tmp_path / "held.jsonl").write_text("".join(lines[-8:]))
    pairs = [json.loads(line) for line in Path(made.pairs).read_text().splitlines()]
    names = [knowledge.NAMES[0], knowledge.NAMES[-1]]
    reports = tmp_path / "sentences.jsonl"
    with reports.open("wb") as stream:
        jsonl.write(stream, (sentence_of(each, names[number % 2]) for number, each in enumerate(pairs)))
    flags = ["--pairs", made.pairs, "--anatomy", made.anatomy, "--reports", reports, "--images", made.folder]
    flags += ["--test-images", tmp_path / "held.jsonl", "--encoder", encoder, "--maps", tmp_path / "maps"]
    shown = run(monkeypatch, capsys, module, *flags, "--side", 64).splitlines()
    assert shown[0].endswith("8 test images")
    assert [line.split(" | ")[0].strip("| ") for line in shown[3:6]] == ["image", "own", "all"]
    assert {line.split(": ")[0] for line in shown[6:]} <= set(names) and len(shown) > 6
