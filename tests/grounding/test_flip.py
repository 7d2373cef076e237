"""Flipped images: recognized by their layout, flipped before the prediction, and the boxes flipped back."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy_runs import run, write

from medground import checkpoints, model_dir
from medground.boxes import Letterbox
from medground.errors import MedgroundError
from medground.grounding import backends, engine, flip, predict
from medground.models import grounder, letterboxed
from medground.records import Phrase

WIDTH, HEIGHT = 150, 120


def heart_image(seed: int, mirrored: bool = False) -> np.ndarray:
    """(HEIGHT, WIDTH) bytes: noise, two lungs, and a heart in the right half of the picture."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    made = np.full((HEIGHT, WIDTH), 170.0)
    for middle in (40, 110):
        made[((columns - middle) / 25) ** 2 + ((rows - 55) / 40) ** 2 < 1] = 60
    x, y = 90 + rng.uniform(-6, 6), 70 + rng.uniform(-8, 8)
    made[((columns - x) / 22) ** 2 + ((rows - y) / 16) ** 2 < 1] = 220
    made = (made + rng.normal(0, 6, made.shape)).clip(0, 255).astype(np.uint8)
    return made[:, ::-1] if mirrored else made


def shown(picture: np.ndarray, size: int) -> letterboxed.LetterboxedImage:
    return letterboxed.of(picture.astype(np.float32) / 255, size)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> tuple[grounder.Grounder, Path]:
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    saved = grounder.save(folder, grounder.build("small", ["heart spot left right"]))
    saved.network.eval()
    return saved, folder


@pytest.fixture(scope="module")
def learned(model):
    squares = (shown(heart_image(n), model[0].config.image_size) for n in range(30))
    return flip.fit(squares, model[0])


@pytest.mark.slow
def test_flipped_images_outside_the_fit_are_recognized(model, learned):
    found, figures = learned
    assert figures["n"] == 30 and figures["right"] == 1.0 and figures["turned"] == 0.0
    for seed in range(100, 110):
        for mirrored in (False, True):
            picture = shown(heart_image(seed, mirrored), model[0].config.image_size).picture()
            as_it_is, other = (backends.encode(model[0], each) for each in (picture, picture.flip(2)))
            assert found.is_flipped(as_it_is, other) == mirrored


@pytest.mark.slow
def test_an_image_that_looks_the_same_either_way_is_left_as_it_is(model, learned):
    even = shown(np.full((HEIGHT, WIDTH), 90, np.uint8), model[0].config.image_size).picture()
    assert not learned[0].is_flipped(*(backends.encode(model[0], each) for each in (even, even.flip(2))))


@pytest.mark.slow
def test_a_flip_check_without_contrast_is_not_kept(model):
    def either_way():
        for n in range(30):
            yield shown(heart_image(n, mirrored=n % 2 == 0), model[0].config.image_size)

    with pytest.raises(MedgroundError, match="held-out images are recognized"):
        flip.fit(either_way(), model[0])
    with pytest.raises(MedgroundError, match="2 images are too few"):
        flip.fit([shown(heart_image(n), 160) for n in range(2)], model[0])


def test_the_threshold_lies_beyond_all_but_one_in_a_thousand_held_out_images():
    odds = np.linspace(-8, 40, 999)
    assert flip.safe_threshold(odds) == 10  # 1.25 times the worst
    assert flip.safe_threshold(np.append(odds, -100)) == 10  # 1 in 1,000 may be beyond
    assert flip.safe_threshold(np.append(odds, [-100, -99])) == pytest.approx(1.25 * 99)
    assert flip.safe_threshold(np.full(20, 5.0)) == flip.THRESHOLD


def test_the_gradient_is_that_of_the_loss():
    rng = np.random.default_rng(0)
    differences = rng.normal(size=(40, 6)).astype(np.float32) + np.array([1, 0, 0, 0, 0, 0], np.float32)
    weights = flip._fit(differences)
    scale = np.sqrt((differences**2).mean(0)) + 1e-6

    def loss(own):
        odds = differences.astype(float) @ own
        return np.mean(np.log1p(np.exp(-odds))) + flip.RIDGE / 2 * ((own * scale) ** 2).sum()

    least = loss(weights)
    for n in range(6):
        for step in (-0.05, 0.05):
            assert loss(weights + step * np.eye(6)[n]) > least
    assert weights[0] == max(weights, key=abs)


def test_patches_of_any_size_are_averaged_over_the_same_cells():
    patches = torch.arange(400.0).reshape(1, 400, 1)
    found = flip.features(engine.EncodedImage(patches, torch.ones(1, 400, dtype=torch.bool)))
    grid = patches.reshape(20, 20)
    assert found.tolist() == [
        grid[2 * r : 2 * r + 2, 2 * c : 2 * c + 2].mean() for r in range(10) for c in range(10)
    ]


@pytest.mark.slow
def test_a_mirrored_image_is_answered_as_the_right_one_would_be(model, learned):
    network = model[0]
    phrases = [
        Phrase(image_id="i", phrase_id=text, path="i.png", text=text, width=WIDTH, height=HEIGHT)
        for text in ("spot", "heart left")
    ]
    choices = predict.PredictOptions(flip_correction=learned[0])
    squares = [shown(heart_image(200, mirrored), network.config.image_size) for mirrored in (False, True)]
    straight, turned = (list(predict.ground_on_image(phrases, each, network, choices)) for each in squares)
    for one, other in zip(straight, turned, strict=True):
        assert "mirrored" not in one.extra and other.extra["mirrored"] is True
        (a,), (b,) = one.boxes, other.boxes
        assert np.allclose((WIDTH - b.box[2], b.box[1], WIDTH - b.box[0], b.box[3]), a.box, atol=0.25)
        assert other.present == pytest.approx(one.present, abs=5e-3)


@pytest.mark.slow
def test_a_narrow_image_with_odd_padding_is_turned_about_its_own_middle(model, learned):
    network = model[0]
    picture = heart_image(201)[:, 25:125]
    inner, side = Letterbox(100, HEIGHT, network.config.image_size).inner[0], network.config.image_size
    assert (side - inner) % 2  # one more column of padding on one side than on the other
    phrase = Phrase(image_id="i", phrase_id="1", path="i.png", text="spot", width=100, height=HEIGHT)
    squares = [shown(each, network.config.image_size) for each in (picture, picture[:, ::-1])]
    always = replace(
        learned[0], weights=-1e6 * learned[0].weights
    )  # takes every image for the other way round
    one = next(predict.ground_on_image([phrase], squares[0], network))
    other = next(
        predict.ground_on_image([phrase], squares[0], network, predict.PredictOptions(flip_correction=always))
    )
    flipped = next(predict.ground_on_image([phrase], squares[1], network))
    assert one.boxes != other.boxes
    x1, y1, x2, y2 = flipped.boxes[0].box
    assert np.allclose(other.boxes[0].box, (100 - x2, y1, 100 - x1, y2), atol=1.5)


@pytest.fixture
def folder(model, tmp_path) -> Path:
    shutil.copytree(model[1], tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.slow
def test_the_commands_learn_it_use_it_and_leave_it(folder, tmp_path):
    phrases = []
    for n in range(12):
        Image.fromarray(heart_image(n)).save(tmp_path / f"{n}.png")
        image = {"image_id": str(n), "subject_id": str(n), "path": f"{n}.png"}
        phrases.append(image | {"phrase_id": str(n), "text": "heart", "boxes": [[60, 50, 110, 90]]})
    known = write(tmp_path / "known.jsonl", phrases)
    done = run("calibrate", known, "--model", folder, "--images", tmp_path, "--fit-flip-correction")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["orientation"]["n"] == 12
    Image.fromarray(heart_image(50, mirrored=True)).save(tmp_path / "wrong.png")
    command = ("ground", tmp_path / "wrong.png", "heart", "--model", folder)
    turned, hung = run(*command), run(*command, "--no-flip-correction")
    assert json.loads(turned.stdout)["mirrored"] is True
    assert "wrong.png: probably flipped left-right" in turned.stderr
    assert json.loads(hung.stdout)["as_hung"] is True and "mirrored" not in hung.stdout
    assert json.loads(turned.stdout)["boxes"] != json.loads(hung.stdout)["boxes"]


@pytest.mark.slow
def test_one_of_other_weights_or_another_version_is_refused(folder, tmp_path):
    Image.fromarray(heart_image(0)).save(tmp_path / "image.png")
    command = ("ground", tmp_path / "image.png", "heart", "--model", folder)
    for config, words in (
        ({"format": 2, "model": "other"}, "fitted for other weights"),
        ({"format": 0}, "written by another version"),
    ):
        checkpoints.save(folder / model_dir.FLIP_CORRECTION, {"weights": torch.zeros(3)}, config)
        refused = run(*command)
        assert refused.exit_code == 1 and words in refused.stderr
        assert run(*command, "--no-flip-correction").exit_code == 0
