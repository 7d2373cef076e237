"""Files from strangers: nothing in a model, an image or a mask file makes medground run code."""

import json
import os
import stat
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors.numpy import save_file

from medground.anatomy import yolo_architecture
from medground.cli.main import cli
from medground.errors import MedgroundError
from medground.grounding.adapters import model as foreign
from medground.models import encoders, grounder, pretrained

CONV = [-1, 1, "Conv", [8, 3, 2]]
GOOD = {"backbone": [CONV], "head": [[[-1, 0], 1, "Detect", ["nc"]]], "nc": 1}
RUN = "__import__('os').system('touch PWNED')"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with one image; a file PWNED in it afterwards is code that ran."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((40, 50), 90, np.uint8)).save("image.png")
    yield tmp_path
    assert not (tmp_path / "PWNED").exists()


def detect(*args, **more):
    return CliRunner().invoke(cli, ["detect-anatomy", *map(str, args)], **more)


def test_a_plain_architecture_passes(tmp_path):
    yolo_architecture.check({"cfg": GOOD, "names": ["left lung"], "size": 64}, tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"activation": RUN},
        {"activation": "nn.SiLU()"},
        {"backbone": [[-1, 1, "torch_safe_load('x.pt')", []]]},
        {"backbone": [[-1, 1, "os.system", ["id"]]]},
        {"backbone": [[-1, 1, "Conv", [RUN]]]},
        {"backbone": [[-1, 1, "Conv", [10**9, 3, 2]]]},
        {"backbone": [[-1, 10**9, "Conv", [8]]]},
        {"backbone": [CONV] * 1000},
        {"backbone": "yolo26n.yaml"},
        {"backbone": [[RUN, 1, "Conv", [8]]]},
        {"scale": RUN},
        {"unknown": 1},
    ],
    ids=str,
)
def test_an_architecture_with_anything_else_is_refused(change, tmp_path):
    with pytest.raises(MedgroundError, match="not an architecture of YOLO layers"):
        yolo_architecture.check({"cfg": GOOD | change, "names": ["left lung"], "size": 64}, tmp_path)


@pytest.mark.parametrize("cfg", ["yolo26n.yaml", "https://host/model.yaml", ["backbone"], None, 3])
def test_an_architecture_by_name_is_refused(cfg, tmp_path):
    with pytest.raises(MedgroundError, match="not an architecture of YOLO layers"):
        yolo_architecture.check({"cfg": cfg, "names": ["left lung"], "size": 64}, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ultralytics") is None, reason="ultralytics is not installed")
@pytest.mark.parametrize("change", [{"activation": RUN}, {"head": [[-1, 1, "torch_safe_load", []]]}], ids=str)
def test_a_yolo_checkpoint_that_names_code_is_one_line(change, folder, monkeypatch):
    # not imported here: ultralytics replaces functions of PIL and torch in its process
    stand_ins = Path(__file__).resolve().parents[1] / "support" / "stand_ins"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(stand_ins), os.environ.get("PYTHONPATH", "")]))
    config = {"kind": "yolo", "cfg": GOOD | change, "names": ["left lung"], "size": 64}
    header = {"medground": json.dumps({"version": "0", "config": config})}
    save_file({"a": np.zeros(1, np.float32)}, folder / "m.safetensors", metadata=header)
    result = detect("image.png", "--images", ".", "--model", "m.safetensors")
    assert result.exit_code == 1 and "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) == 1 and "m.safetensors" in result.stderr


CODE = "import os\nopen('PWNED', 'w')\nraise SystemExit\n"
MODELS = {  # the class of transformers that each kind of folder is read by -> its auto_map
    "detector": {"AutoConfig": "own.C", "AutoModelForObjectDetection": "own.M"},
    "image encoder": {"AutoConfig": "own.C", "AutoModel": "own.M", "AutoBackbone": "own.M"},
    "text encoder": {"AutoConfig": "own.C", "AutoModel": "own.M", "AutoTokenizer": ["own.T", "own.T"]},
}


def own_code(folder, auto_map, kind):
    """Write a model folder whose own module would run when loaded."""
    model = folder / "model"
    model.mkdir()
    (model / "own.py").write_text(CODE)
    config = {"model_type": kind, "auto_map": auto_map, "architectures": ["M"]}
    (model / "config.json").write_text(json.dumps(config))
    (model / "tokenizer_config.json").write_text(json.dumps({"auto_map": auto_map}))
    save_file({"a": np.zeros(1, np.float32)}, model / "model.safetensors")
    return model


@pytest.mark.parametrize("kind", ["own", "rt_detr_v2"])
def test_code_of_a_detector_folder_is_not_run_and_gives_no_prompt(kind, folder):
    own_code(folder, MODELS["detector"], kind)
    result = detect("-", "--images", ".", "--model", "model", input="y\nimage.png\n")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "auto_map" in result.stderr and "not run" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["own", "bert", "resnet"])
@pytest.mark.parametrize("load", [pretrained.load_image_encoder, pretrained.load_text_encoder])
def test_code_of_an_encoder_folder_is_not_run(load, kind, folder, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    model = own_code(folder, MODELS["text encoder"] | MODELS["image encoder"], kind)
    with pytest.raises(MedgroundError):
        load(str(model))


@pytest.mark.slow
def test_code_of_a_tokenizer_is_not_run(folder, toy_images_model, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    model = folder / "copy"
    model.mkdir()
    for path in toy_images_model.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    (model / "own.py").write_text(CODE)
    config = json.loads((model / "tokenizer_config.json").read_text())
    config |= {"auto_map": {"AutoTokenizer": ["own.T", "own.T"]}, "tokenizer_class": "T"}
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(MedgroundError, match="tokenizer"):
        grounder.load(model)


@pytest.fixture
def toy_images_model():
    """The folder of the example model."""
    from medground import shipped

    return shipped.GROUNDER


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "quantization_config"])
def test_keys_that_choose_code_to_load_are_refused(key, folder):
    model = folder / "model"
    model.mkdir()
    values = {"model_type": "bert", "nested": [{key: "someone/kernels"}]}
    (model / "config.json").write_text(json.dumps(values))
    save_file({"a": np.zeros(1, np.float32)}, model / "model.safetensors")
    with pytest.raises(MedgroundError, match=key):
        pretrained.load_text_encoder(str(model))
    result = detect("image.png", "--images", ".", "--model", "model")
    assert result.exit_code == 1 and key in result.stderr
    with pytest.raises(MedgroundError, match=key):
        encoders.build_text_encoder({"model_type": "bert", key: "someone/kernels"})


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "quantization_config"])
def test_keys_that_choose_code_are_refused_in_models_of_others(key, folder):
    own_code(folder, {}, "owlv2")
    config = {"model_type": "owlv2", "text_config": {key: "someone/kernels"}}
    (folder / "model" / "config.json").write_text(json.dumps(config))
    result = CliRunner().invoke(cli, ["ground", "image.png", "effusion", "--model", "model"])
    assert result.exit_code == 1 and f"has '{key}', which can load code" in result.stderr
    assert "--trust-remote-code" in result.stderr


@pytest.mark.slow
def test_code_of_a_processor_is_not_run(folder, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    own_code(folder, {}, "owlv2")
    (folder / "model" / "config.json").write_text(json.dumps({"model_type": "owlv2"}))
    named = {"AutoProcessor": "own.P", "AutoImageProcessor": "own.P"}
    processor = {"auto_map": named, "image_processor_type": "own.P"}
    (folder / "model" / "preprocessor_config.json").write_text(json.dumps(processor))
    with pytest.raises(MedgroundError, match="trust_remote_code"):
        foreign.load(folder / "model", "cpu")


@pytest.mark.slow
def test_an_encoder_that_needs_another_package_is_one_message(folder):
    config = {"model_type": "timm_backbone", "backbone": "someone/else", "use_pretrained_backbone": True}
    if find_spec("timm") is None:
        with pytest.raises(MedgroundError, match="timm_backbone needs a package"):
            encoders.build_image_encoder(config)


@pytest.mark.slow
@pytest.mark.parametrize("value", ["x", [1], {"a": 1}], ids=str)
def test_a_config_with_a_value_of_another_type_is_one_message(value, folder):
    own_code(folder, {}, "bert")
    config = {"model_type": "bert", "hidden_size": value}
    with pytest.raises(MedgroundError, match="the config of a bert has an invalid value"):
        encoders.build_text_encoder(config)
    (folder / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(MedgroundError, match="no text encoder there"):
        pretrained.load_text_encoder(str(folder / "model"))
    (folder / "model" / "config.json").write_text(json.dumps({"model_type": "rt_detr_v2", "d_model": value}))
    result = detect("image.png", "--images", ".", "--model", "model")
    assert result.exit_code == 1 and "not a detector that transformers can load" in result.stderr


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".eps", ".ps"])
def test_a_picture_in_postscript_starts_no_program(suffix, folder, monkeypatch):
    gs = folder / "bin" / "gs"
    gs.parent.mkdir()
    gs.write_text("#!/bin/sh\ntouch PWNED\n")
    gs.chmod(gs.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{gs.parent}:{os.environ['PATH']}")
    name = f"script{suffix}"
    (folder / name).write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n"
    )
    (folder / "list").write_text(name + "\n")
    result = detect("list", "--images", ".")
    assert result.exit_code == 1 and "not an image" in result.stderr


@pytest.mark.parametrize("form", ["PPM", "TGA", "PCX", "ICO", "SGI"])
def test_formats_that_are_not_documented_are_not_opened(form, folder):
    Image.fromarray(np.zeros((32, 32), np.uint8)).save("odd.png", format=form)
    result = detect("odd.png", "--images", ".")
    assert result.exit_code == 1 and "not an image" in result.stderr
