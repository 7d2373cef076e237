"""Damaged or exchanged parts of a model, an export, a calibration or a cache are one message."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from medground import checkpoints
from medground.data import image_cache
from medground.errors import MedgroundError
from medground.grounding import backends, calibration, exporting, flip
from medground.grounding.calibration import Calibration, Curve
from medground.model_dir import CALIBRATION, FLIP_CORRECTION, ModelDir
from medground.models import grounder
from medground.records import Image as ImageRecord

CHANGED = "damaged, or from another model"


def made(folder, seed, texts):
    torch.manual_seed(seed)
    return grounder.save(folder, grounder.build("small", texts))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models in folders."""
    root = tmp_path_factory.mktemp("models")
    made(root / "one", 0, ["bright spot"])
    made(root / "two", 1, ["left effusion"])
    return root


@pytest.fixture
def model(models, tmp_path):
    """A copy of the first model."""
    return Path(shutil.copytree(models / "one", tmp_path / "model"))


@pytest.mark.slow
def test_a_whole_model_is_loaded(model):
    assert grounder.load(model).name == ModelDir(model).name


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_of_another_model_is_refused(model, models, name):
    text = (models / "two" / name).read_text()
    (model / name).write_text(text + " ")
    with pytest.raises(MedgroundError, match=f"{name}: {CHANGED}; copy the model folder again|vocabulary"):
        grounder.load(model)


def test_a_config_that_was_changed_is_refused(model):
    values = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(values))
    with pytest.raises(MedgroundError, match=f"config.json: {CHANGED}"):
        grounder.load(model)


@pytest.mark.parametrize(
    "change",
    [
        {"dropout": -1},
        {"feed_forward": -1},
        {"width": 7},
        {"heads": 0},
        {"text_encoder": {"model_type": "bert"}},
    ],
    ids=str,
)
@pytest.mark.slow
def test_a_config_without_a_network_is_one_message(change, model):
    values = json.loads((model / "config.json").read_text()) | change
    (model / "config.json").write_text(json.dumps(values))
    weights, header = checkpoints.load(model / "model.safetensors")
    checkpoints.save(model / "model.safetensors", weights, header | {"files": {}})  # as an attacker would
    with pytest.raises(MedgroundError, match=r"config\.json"):
        grounder.load(model)


def test_a_missing_part_is_refused(model):
    (model / "tokenizer_config.json").unlink()
    with pytest.raises(MedgroundError, match=r"no tokenizer_config\.json"):
        grounder.load(model)


def test_a_model_of_an_earlier_version_is_loaded(model, monkeypatch):
    weights, header = checkpoints.load(model / "model.safetensors")
    header.pop("files")
    monkeypatch.setattr(
        checkpoints, "_with_digest", lambda head, _: head.replace(b'\\"data\\"', b'\\"date\\"')
    )
    checkpoints.save(model / "model.safetensors", weights, header)
    grounder.load(model)


@pytest.mark.parametrize("place", [-1, -1000, "middle", "first"])
def test_a_changed_bit_in_the_weights_is_refused(model, place):
    path = model / "model.safetensors"
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[{"middle": (start + len(content)) // 2, "first": start}.get(place, place)] ^= 4
    path.write_bytes(content)
    with pytest.raises(MedgroundError, match=f"model.safetensors: {CHANGED}; copy it again"):
        grounder.load(model)


@pytest.mark.parametrize(
    "header", ["[" * 100_000, '{"config": ' + "[" * 500 + "]" * 500 + "}", "[]", "1", '{"config": []}']
)
def test_a_hostile_header_of_weights_is_one_message(header, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"a": np.zeros(1, np.float32)}, path, metadata={"medground": header})
    for read in (checkpoints.load, checkpoints.load_arrays, checkpoints.read_config):
        with pytest.raises(MedgroundError, match="not a medground checkpoint"):
            read(path)


def calibrated(folder, name):
    curve = Curve(slope=1.5, offset=0.25)
    calibration.save(folder, Calibration(name, curve, curve, [0.1, 0.2, None], 0.5, {"n": 3}))


def test_a_changed_calibration_is_refused(model):
    name = ModelDir(model).name
    calibrated(model, name)
    assert calibration.load(model, name).margins == [0.1, 0.2, None]
    path = model / CALIBRATION
    text = path.read_text()
    for damaged in (
        text.replace("0.25", "0.26"),
        text.replace("null", "0.3"),
        text.replace('"n": 3', '"n": 4'),
    ):
        path.write_text(damaged)
        with pytest.raises(MedgroundError, match=f"{CALIBRATION}: {CHANGED}; run medground calibrate again"):
            calibration.load(model, name)
    values = json.loads(text)
    values.pop("digest")  # of an earlier version
    path.write_text(json.dumps(values))
    assert calibration.load(model, name)


def test_a_changed_flip_correction_is_refused(model):
    flip.save(model, flip.FlipCorrection("m", np.arange(8, dtype=np.float32)))
    assert flip.load(model, "m").weights.tolist() == list(range(8))
    path = model / FLIP_CORRECTION
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\x41")
    with pytest.raises(MedgroundError, match=f"{FLIP_CORRECTION}: {CHANGED}"):
        flip.load(model, "m")
    flip.save(model, flip.FlipCorrection("m", np.arange(8, dtype=np.float32), 0.625))
    other = path.read_bytes().replace(b"0.625", b"0.125")
    assert other != path.read_bytes()
    path.write_bytes(other)
    with pytest.raises(MedgroundError, match=f"{FLIP_CORRECTION}: {CHANGED}"):
        flip.load(model, "m")
    for cut in (len(content) - 1, len(content) // 2, 9, 0):
        path.write_bytes(content[:cut])
        with pytest.raises(MedgroundError, match=FLIP_CORRECTION):
            flip.load(model, "m")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
def test_a_changed_part_of_an_export_is_refused(model, tmp_path):
    folder = tmp_path / "export"
    exporting.export(grounder.load(model), model, folder)
    backends.load(folder)
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        exchanged = (
            content.replace(b'"model": "', b'"model": "0') if path.name == "engine.json" else content + b" "
        )
        for damaged in (exchanged, content[: len(content) // 2], b""):
            path.write_bytes(damaged)
            with pytest.raises(MedgroundError, match="again"):
                backends.load(folder)
        path.write_bytes(content)


@pytest.fixture
def cache(tmp_path):
    """A cache of three images in two parts."""
    for number in range(3):
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (40, 50), np.uint8)).save(
            tmp_path / f"{number}.png"
        )
    images = [ImageRecord(image_id=str(n), path=f"{n}.png") for n in range(3)]
    folder = tmp_path / "cache"
    image_cache.build(images[:2], tmp_path, folder, 32, print)
    image_cache.build(images[2:], tmp_path, folder, 32, print)
    return folder


def read(folder):
    held = image_cache.Cache(folder, 32)
    return [held.get(f"{n}.png") for n in range(3)]


@pytest.mark.parametrize(
    "change", ["exchanged", "truncated", "another size", "another type", "bits", "empty"]
)
def test_a_changed_part_of_a_cache_is_refused(cache, change):
    read(cache)
    one, two = sorted(cache.glob("*.npy"))
    content = two.read_bytes()
    if change == "exchanged":
        two.write_bytes(one.read_bytes())
    elif change == "another size":
        np.save(two, np.zeros((1, 16, 16), np.uint8))
    elif change == "another type":
        np.save(two, np.zeros((1, 32, 32), np.float32))
    else:
        two.write_bytes({"truncated": content[:-9], "bits": content[:-1] + b"\7", "empty": b""}[change])
    with pytest.raises(MedgroundError, match=r"images-00001\.npy: missing or damaged; delete images"):
        read(cache)


@pytest.mark.parametrize("text", ["[]", "{}", "1", "[" * 5000, '{"format": 1}', ""])
def test_a_changed_config_of_a_cache_is_refused(cache, text):
    (cache / image_cache.CONFIG).write_text(text)
    with pytest.raises(MedgroundError, match="cache"):
        read(cache)
