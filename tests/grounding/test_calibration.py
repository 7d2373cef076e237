"""Scores that mean frequencies and margins that keep their promise: the mathematics, then the command."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import toy
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from keyed import recorded
from PIL import Image

from medground import jsonl
from medground.boxes import Letterbox
from medground.cli.main import cli
from medground.errors import MedgroundError
from medground.grounding import calibration, fitting, predict, stated
from medground.grounding.calibration import Calibration, Curve, Events
from medground.models import grounder
from medground.records import Phrase

LETTERBOX = Letterbox(200, 100, 64)


def events(logits: list[float], true: list[bool], shares: list[float] | None = None) -> Events:
    return Events(np.array(logits, float), np.array(true, bool), np.array(shares or [1.0] * len(true)))


def fitted(margins: list[float | None]) -> Calibration:
    return Calibration("m", Curve(), Curve(), margins, 0.5, {})


def test_platts_curve_finds_the_one_that_made_the_outcomes():
    rng = np.random.default_rng(0)
    logits, shares = rng.normal(0, 3, 4_000), rng.uniform(0.01, 1, 4_000)
    chance = 1 / (1 + np.exp(-(0.5 * logits + 0.8 * np.log(shares) + 0.7)))
    curve = calibration.fit_curve(Events(logits, rng.random(4_000) < chance, shares))
    assert (curve.slope, curve.size, curve.offset) == pytest.approx((0.5, 0.8, 0.7), abs=0.12)


def test_separable_outcomes_give_no_certainty_and_equal_ones_nothing():
    curve = calibration.fit_curve(events([-2, -1, 1, 2], [False, False, True, True]))
    assert 0.5 < curve(2.0) < 1 - 1e-3
    assert calibration.fit_curve(events([-2, 3], [True, True])) == calibration.AS_IT_IS


def test_only_what_was_fitted_is_calibrated_and_the_data_are_named():
    curves = {"none": Curve(), "fitted": Curve(0.5, -1.0)}
    found = Calibration("m", curves["none"], curves["fitted"], [0.1] * 20, 0.5, {}, "NIH, 64 images")
    keys = predict.option_keys(predict.PredictOptions(calibration=found))
    assert keys == {"calibrated": {"score": "NIH, 64 images"}}
    keys = predict.option_keys(predict.PredictOptions(calibration=found, coverage=0.9))
    assert keys["calibrated"] == {"score": "NIH, 64 images", "coverage": "NIH, 64 images"}
    assert stated.described(keys) == "score, coverage on NIH, 64 images"
    nothing = Calibration("m", Curve(), Curve(), [], 0.5, {}, "x")
    assert predict.option_keys(predict.PredictOptions(calibration=nothing)) == {}
    assert stated.described({}) == ""


def test_phrases_that_are_all_present_do_not_calibrate_present():
    box = np.array([[10.0, 10, 30, 30]])
    phrases = [
        Phrase(image_id=str(n), phrase_id="p", path="", text="x", boxes=[(10, 10, 30, 30 + 40 * (n % 2))])
        for n in range(60)
    ]
    some = [(each, predict.Prediction(box, np.array([1.0]), 1.0, LETTERBOX)) for each in phrases]
    assert fitting.fit(some, "m", "mine").fitted() == {"score": "mine"}


def test_figures_are_better_after_than_before():
    rng = np.random.default_rng(1)
    found = Events(rng.normal(4, 1, 500), rng.random(500) < 0.3, np.ones(500))
    curve = calibration.fit_curve(found)
    for how in (calibration.brier, calibration.calibration_error):
        assert how(curve, found) < how(calibration.AS_IT_IS, found)
    assert calibration.calibration_error(curve, found) < 0.06


def test_the_calibration_error_of_equal_probabilities_ignores_the_order():
    """A constant that is the frequency has no error, also if all present phrases come first."""
    true = [True] * 30 + [False] * 30
    for order in (true, true[::-1], true[::2] + true[1::2]):
        assert calibration.calibration_error(Curve(0.0, 0.0), events([0.3] * 60, order)) == 0


def test_scores_that_cannot_be_calibrated_are_named(caplog):
    """Here no box hits, and absent phrases have the higher logits."""
    box = np.array([[10.0, 10, 30, 30]])
    found = [
        (
            Phrase(image_id=str(n), phrase_id="p", path="", text="x", boxes=[(150, 60, 180, 90)] * (n % 2)),
            predict.Prediction(box, np.array([1.0]), 1.0 - n % 2, LETTERBOX),
        )
        for n in range(60)
    ]
    assert fitting.fit(found, "m").present_curve.slope == 0
    assert "no box reaches IoU 0.5: `score` is not calibrated" in caplog.text
    assert "`present` does not rise with the true outcomes" in caplog.text


@pytest.mark.slow
@given(st.lists(st.floats(0, 5), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_the_margin_is_the_smallest_that_covers_enough_of_one_more(margins, coverage):
    margins = sorted(margins)
    n = len(margins)
    enough = [each for k, each in enumerate(margins, start=1) if k >= (n + 1) * coverage - 1e-9]
    if not enough:
        with pytest.raises(MedgroundError, match="support at most"):
            fitted(margins).margin(coverage)
    else:
        assert fitted(margins).margin(coverage) == enough[0]


def test_the_promise_is_kept_on_average_over_draws():
    rng = np.random.default_rng(2)
    kept = []
    for _ in range(400):
        known = sorted(rng.gamma(2, 0.3, 40).tolist())
        kept.append(1 - math.exp(-fitted(known).margin(0.9) / 0.3) * (1 + fitted(known).margin(0.9) / 0.3))
    assert 0.9 - 0.01 <= np.mean(kept) <= 0.9 + 1 / 41 + 0.01  # Vovk: between c and c + 1 / (n + 1)


def test_boxes_that_nothing_was_found_for_limit_the_promise():
    margins = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, None]
    assert fitted(margins).margin(0.8) == 0.8
    with pytest.raises(MedgroundError, match=r"9 validation boxes support at most 0\.8"):
        fitted(margins).margin(0.9)


sides = st.tuples(*[st.floats(0, 150)] * 2, *[st.floats(1, 50)] * 2)


@pytest.mark.slow
@given(box=sides, found=sides)
def test_widened_by_the_margin_that_it_needs_a_box_covers_the_other(box, found):
    true, own = (np.array([x, min(y, 49), min(x + w, 200), min(y, 49) + h]) for x, y, w, h in (box, found))
    own = np.array(predict.inside(own, LETTERBOX))
    margin = calibration.needed_margin(true, own[None])
    wide = predict.widened(tuple(own), margin + 1e-9, LETTERBOX)
    assert wide[0] <= true[0] + 1e-6 and wide[1] <= true[1] + 1e-6
    assert wide[2] >= true[2] - 1e-6 and wide[3] >= true[3] - 1e-6
    assert 0 <= wide[0] < wide[2] <= 200 and 0 <= wide[1] < wide[3] <= 100
    if margin > 0.01:
        narrow = predict.widened(tuple(own), margin * 0.9 - 0.2 / min(own[2:] - own[:2]), LETTERBOX)
        assert not (np.array(narrow[:2]) <= true[:2]).all() or not (np.array(narrow[2:]) >= true[2:]).all()


def test_the_nearest_of_several_boxes_counts_and_none_covers_nothing():
    true = np.array([10.0, 10, 20, 20])
    far, near = [100.0, 50, 110, 60], [11.0, 10, 21, 20]
    assert calibration.needed_margin(true, np.array([far, near])) == pytest.approx(0.1)
    assert calibration.needed_margin(true, np.zeros((0, 4))) is None
    assert calibration.needed_margin(true, np.array([[0.0, 0, 30, 30]])) == 0


def prediction(box: tuple, present: float) -> predict.Prediction:
    return predict.Prediction(np.array([box], float), np.array([present]), present, LETTERBOX)


def test_absent_phrases_teach_present_and_need_no_margin():
    def phrase(number: int, boxes: list) -> Phrase:
        return Phrase(image_id=f"i{number}", phrase_id="1", path="x", text="t", boxes=boxes)

    found = [(phrase(n, [(10, 10, 60, 60)]), prediction((10, 10, 60, 55), 3 + n % 5)) for n in range(30)]
    found += [(phrase(n, []), prediction((0, 0, 9, 9), 2 + n % 3)) for n in range(30)]
    curve = fitting.fit(found, "m")
    assert len(curve.margins) == 30
    assert curve.margin(0.9) == pytest.approx(5 / 45, abs=1e-4)
    assert curve.present(7.0) > 0.9 and curve.present(2.0) < 0.3
    assert curve.figures["present"]["brier"] < curve.figures["present"]["brier_before"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> toy.Toy:
    return toy.make(tmp_path_factory.mktemp("toy"), count=24)


@pytest.fixture
def model(tmp_path) -> Path:
    torch.manual_seed(0)
    grounder.save(tmp_path / "model", grounder.build("small", ["bright spot", "left lung"]))
    return tmp_path / "model"


def run(*args: object):
    return CliRunner().invoke(cli, list(map(str, args)))


@pytest.mark.slow
def test_a_calibrated_model_gives_frequencies_and_covers_what_it_promises(cohort, model, tmp_path):
    result = run("calibrate", cohort.phrases, "--model", model, "--images", cohort.folder)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["margin"]["n"] == 24
    assert json.loads((model / "calibration.json").read_text())["data"] == Path(cohort.phrases).stem
    out, inputs = tmp_path / "found.jsonl", ("--images", cohort.folder, "--phrases", cohort.phrases)
    result = run("ground", "--model", model, *inputs, "--coverage", 0.75, "-o", out)
    assert result.exit_code == 0, result.stderr
    found = [json.loads(line) for line in out.read_text().splitlines()]
    truth = [json.loads(line)["boxes"][0] for line in Path(cohort.phrases).read_text().splitlines()]
    assert all(each["calibrated"] and each["coverage"] == 0.75 for each in found)
    inside = [
        a[0] <= b[0] and a[1] <= b[1] and a[2] >= b[2] and a[3] >= b[3]
        for a, b in zip((each["boxes"][0]["box"] for each in found), truth, strict=True)
    ]
    assert np.mean(inside) >= 0.75  # on the very phrases that it was fitted on
    raw = run("ground", "--model", model, *inputs, "--no-calibration")
    assert "calibrated" not in raw.stdout and raw.stdout != out.read_text()


@pytest.mark.slow
def test_a_model_is_calibrated_on_scaled_copies_as_on_the_images_that_were_drawn_on(cohort, model, tmp_path):
    for path in cohort.folder.glob("*.png"):
        Image.open(path).resize((toy.WIDTH * 2, toy.HEIGHT * 2)).save(tmp_path / path.name)
    with open(cohort.phrases, "rb") as stream:
        phrases = list(jsonl.read(stream, Phrase, jsonl.BadLines()))
    found = fitting.calibrate(phrases, grounder.load(model), tmp_path)
    own = fitting.calibrate(phrases, grounder.load(model), cohort.folder)
    assert found.margins == pytest.approx(own.margins, abs=0.1)


@pytest.mark.slow
def test_other_weights_are_not_given_an_older_calibration(cohort, model):
    assert run("calibrate", cohort.phrases, "--model", model, "--images", cohort.folder).exit_code == 0
    torch.manual_seed(1)
    grounder.save(model, grounder.build("small", ["bright spot", "left lung"]))
    result = run("ground", "--model", model, cohort.folder / "image0.png", "spot")
    assert (result.exit_code, "fitted for other weights" in result.stderr) == (1, True)
    assert (
        run("ground", "--model", model, cohort.folder / "image0.png", "spot", "--no-calibration").exit_code
        == 0
    )


@pytest.mark.slow
def test_a_promise_needs_a_calibration_and_enough_phrases(cohort, model):
    one = ("ground", "--model", model, cohort.folder / "image0.png", "spot", "--coverage")
    result = run(*one, 0.9)
    assert (result.exit_code, "run medground calibrate" in result.stderr) == (1, True)
    assert run(*one, 0.9, "--no-calibration").exit_code == 2
    assert run(*one, 0.9, "--min-present", 0.5).exit_code == 2
    run("calibrate", cohort.phrases, "--model", model, "--images", cohort.folder)
    result = run(*one, 0.99)
    assert (result.exit_code, "support at most 0.96" in result.stderr) == (1, True)
    result = run("calibrate", cohort.phrases, "--split", "val", "--model", model, "--images", cohort.folder)
    assert (result.exit_code, "on 6 phrases only" in result.stderr) == (0, True)
    result = run("calibrate", cohort.phrases, "--split", "no", "--model", model, "--images", cohort.folder)
    assert (result.exit_code, "no phrase is of no; it has train, val" in result.stderr) == (1, True)


@pytest.mark.slow
def test_a_model_is_not_calibrated_on_its_training_patients(cohort, model):
    torch.manual_seed(0)
    seen = recorded("p3")
    grounder.save(model, grounder.build("small", ["bright spot"]), record=seen)
    result = run("calibrate", cohort.phrases, "--model", model, "--images", cohort.folder)
    assert (result.exit_code, "1 subject is in both" in result.stderr) == (1, True)
    assert not (model / "calibration.json").exists()


@pytest.mark.slow
def test_a_damaged_calibration_is_one_line(model, cohort):
    for text in ("{", "[]", '{"format": 1}', '{"format": 2, "present_curve": {}, "score_curve": {}}'):
        (model / "calibration.json").write_text(text)
        result = run("ground", "--model", model, cohort.folder / "image0.png", "spot")
        assert (result.exit_code, "run medground calibrate again" in result.stderr) == (1, True)
