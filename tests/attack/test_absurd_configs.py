"""Configs of networks with absurd sizes are refused before anything is built, with their key."""

import json
import shutil

import pytest
import torch
from tiny_detectors import d_fine
from torch import nn

from medground import checkpoints, config_limits
from medground.anatomy import detector, region_query
from medground.downstream.segment import decoders
from medground.errors import MedgroundError
from medground.grounding.adapters import sources
from medground.models import building, grounder, pretrained
from medground.models.config import GrounderConfig

BILLION = 10**9
TOO_MANY = "no network that medground knows is larger"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a model and its encoders."""
    folder = tmp_path_factory.mktemp("model")
    grounder.save(folder, grounder.build("small", ["left effusion"]))
    return folder


@pytest.fixture
def model(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "model")


def numbers(values, path=()):
    """Return the place of every whole number in a config."""
    if isinstance(values, dict | list):
        items = values.items() if isinstance(values, dict) else enumerate(values)
        return [place for key, each in items for place in numbers(each, (*path, key))]
    return [path] if type(values) is int else []


def put(values, path, value):
    *before, last = path
    for key in before:
        values = values[key]
    values[last] = value


def test_every_number_of_a_model_has_a_limit(whole):
    given = json.loads((whole / "config.json").read_text())
    GrounderConfig.from_json(given)
    places = numbers(given)
    assert len(places) > 20
    for place in places:
        changed = json.loads(json.dumps(given))
        put(changed, place, BILLION)
        with pytest.raises(MedgroundError, match=TOO_MANY) as found:
            GrounderConfig.from_json(changed)
        assert str([each for each in place if isinstance(each, str)][-1]) in str(found.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_hidden_layers": 1001}, "num_hidden_layers: more than 1,000; "),
        ({"text_config": {"n_layers": -2000}}, "n_layers: more than 1,000"),
        ({"backbones": [{"depths": [600, 600]}]}, "depths: more than 1,000"),
        ({"depths": [0] * 2000}, "depths: more than 1,000"),
        ({"hidden_sizes": [1] * 2000}, "hidden_sizes: more than"),
        ({"vision_config": {"image_size": [4097, 10]}}, "image_size: more than 4,096"),
        ({"hidden_size": BILLION}, "hidden_size: more than 67,108,864"),
        ({"kernels": [[3, BILLION]]}, "kernels: more than 67,108,864"),
        (
            {
                "num_hidden_layers": 1000,
                "image_size": 4096,
                "layer_norm_eps": 1e12,
                "use_cache": True,
                "a": None,
            },
            None,
        ),
        ({"size": {"longest_edge": 16777216, "shortest_edge": 3136}, "rope_theta": 10_000_000}, None),
        (["a"] * 5000, None),
        ({"label2id": {"blocks": 5000}}, None),
    ],
)
def test_numbers_beyond_a_limit_are_refused(config, message):
    if message is None:
        config_limits.check(config, "x")
        return
    with pytest.raises(MedgroundError, match=f"^x: {message}"):
        config_limits.check(config, "x")


@pytest.mark.parametrize(
    ("key", "value"),
    [("width", 1 << 20), ("queries", 1 << 26), ("feed_forward", 1 << 24), ("fusion_layers", 1000)],
)
def test_a_network_with_more_weights_than_its_file_is_not_built(model, monkeypatch, key, value):
    monkeypatch.setattr(building, "HARMLESS", 0)
    changed = json.loads((model / "config.json").read_text()) | {key: value, "architecture": "mdetr"}
    (model / "config.json").write_text(json.dumps(changed))
    with pytest.raises(MedgroundError, match=r"config.json: describes more weights than its files hold"):
        grounder.load(model)


def test_weights_that_loading_replaces_count_once(tmp_path, monkeypatch):
    monkeypatch.setattr(building, "HARMLESS", 0)
    (tmp_path / "weights").write_bytes(b"x" * 6)
    with building.bounded([tmp_path / "weights"], "x"):
        layer = nn.Linear(3, 3)
        layer.weight = nn.Parameter(torch.zeros(3, 3))
    with pytest.raises(MedgroundError, match="describes more"), building.bounded([tmp_path / "weights"], "x"):
        nn.Linear(4, 3)


def test_the_limit_is_gone_after_building(tmp_path, monkeypatch):
    monkeypatch.setattr(building, "HARMLESS", 11)
    (tmp_path / "weights").write_bytes(b"x")
    with pytest.raises(MedgroundError, match="describes more"), building.bounded([tmp_path / "weights"], "x"):
        nn.Linear(3, 3)
    assert nn.Linear(3, 3).in_features == 3


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("layers", BILLION, "layers: more than 1,000"),
        ("size", 80_000, "size: more than 4,096"),
        ("width", BILLION, "width: more than"),
        ("width", 1 << 25, "describes more weights|describes no network"),
        ("channels", [8, 8], "describes no network that can be built"),
        ("size", "large", "describes no network that can be built"),
        ("names", None, "describes no network that can be built"),
    ],
)
def test_a_detector_of_absurd_size_is_refused(key, value, message, tmp_path):
    values = region_query.to_json(region_query.Config(names=("spine",))) | {key: value}
    checkpoints.save(tmp_path / "model.safetensors", {"a": torch.zeros(1)}, values)
    with pytest.raises(MedgroundError, match=message):
        detector.load(tmp_path / "model.safetensors", "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("key", ["decoder_layers", "d_model", "num_queries", "backbone_config"])
def test_a_detector_of_transformers_of_absurd_size_is_refused(key, tmp_path):
    d_fine().save_pretrained(tmp_path)
    changed = json.loads((tmp_path / "config.json").read_text())
    if key == "backbone_config":
        changed[key]["depths"] = [BILLION] * 4
    else:
        changed[key] = BILLION
    (tmp_path / "config.json").write_text(json.dumps(changed))
    with pytest.raises(MedgroundError, match=TOO_MANY):
        detector.load(tmp_path, "cpu")


@pytest.mark.parametrize("what", ["image", "text"])
def test_a_published_encoder_of_absurd_size_is_refused(what, tmp_path):
    kind, key = {"image": ("resnet", "depths"), "text": ("bert", "num_hidden_layers")}[what]
    value = [BILLION] if what == "image" else BILLION
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, key: value}))
    load = pretrained.load_image_encoder if what == "image" else pretrained.load_text_encoder
    with pytest.raises(MedgroundError, match=f"{key}: more than 1,000"):
        load(str(tmp_path))


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "processor_config.json"])
def test_configs_of_other_models_have_the_limits(name, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "owlv2"}')
    given = json.loads((tmp_path / name).read_text()) if (tmp_path / name).is_file() else {}
    (tmp_path / name).write_text(json.dumps(given | {"size": {"height": BILLION, "width": 9}}))
    with pytest.raises(MedgroundError, match=f"{name}: height: more than 4,096"):
        sources.read_config(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("size", 5000), ("widths", [8] * 1001), ("classes", BILLION), ("maps", [[8, BILLION]])],
)
def test_the_shape_of_a_decoder_has_the_limits(key, value):
    shape = {"name": "unet", "maps": [[8, 8], [16, 4]], "size": 32, "widths": [8, 8], "classes": 2}
    decoders.Shape.from_json(shape)
    with pytest.raises(MedgroundError, match=f"shape: {key}: more than"):
        decoders.Shape.from_json(shape | {key: value})
