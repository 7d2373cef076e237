"""An exported model predicts what the network does."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_runs import run

from medground import checkpoints
from medground.boxes import paired_iou
from medground.errors import MedgroundError
from medground.grounding import backends, engine, exporting
from medground.models import grounder
from medground.models.graphs import openvino

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")


@pytest.fixture(scope="module")
def exported(tmp_path_factory, model) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "engine"
    result = run("export", "--model", model, "-o", folder)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", ""), result.stderr
    return folder


@pytest.mark.slow
@needs_openvino
def test_an_export_answers_as_torch_does(ground, exported, cohort, model):
    flags = ("--images", cohort.folder, "--phrases", cohort.phrases, "--min-score", 0)
    found = run("ground", "--model", exported, *flags)
    assert found.exit_code == 0, found.stderr
    own, other = (
        [json.loads(line) for line in each.stdout.splitlines()] for each in (ground("--min-score", 0), found)
    )
    assert [each["model"] for each in other] == [grounder.name_of(model)] * 4
    boxes = [np.array([b["box"] for each in side for b in each["boxes"]]) for side in (own, other)]
    assert paired_iou(*boxes).min() >= 0.99
    assert [each["present"] for each in own] == pytest.approx([each["present"] for each in other], abs=1e-3)


@pytest.mark.slow
@needs_openvino
def test_one_box_networks_export_for_any_number_of_texts_of_any_length(tmp_path):
    torch.manual_seed(0)
    model = grounder.save(tmp_path, grounder.build("small", ["bright spot"]))
    model.network.eval()
    exporting.export(model, tmp_path, tmp_path)
    exported = backends.load(tmp_path)
    assert isinstance(exported, engine.Exported)
    picture = torch.rand(2, 160, 160)
    picture[1] = 1
    picture[:, :20] = 0
    for texts in (["spot"], ["bright " * 30, "spot", "a bright spot"], ["spot"] * 9):
        tokens = model.tokenize(texts)
        with torch.inference_mode():
            own, other = (backends.query_image(each, picture)(*tokens) for each in (model, exported))
        assert np.allclose(own.boxes, other.boxes, rtol=1e-5, atol=1e-4)
        assert own.boxes.shape == other.boxes.shape == (len(texts), 1, 4)
        assert np.allclose(own.present, other.present, rtol=1e-5, atol=1e-3)


@pytest.mark.slow
def test_answers_do_not_depend_on_what_is_left_out_to_be_fast(model):
    whole = grounder.load(model)
    picture = torch.rand(2, 160, 160)
    picture[1] = 1
    picture[:, :, :40] = 0
    ids, mask = whole.tokenize([f"bright spot {n}" for n in range(9)])
    with torch.inference_mode():
        fast = backends.query_image(whole, picture)(ids, mask)
        both = picture[None]
        zeros = torch.zeros(9, dtype=torch.long)
        slow = whole.network(both[:, :1], both[:, 1:], ids, mask, zeros, torch.arange(9))
    assert np.allclose(fast.boxes, slow.boxes, rtol=1e-5, atol=1e-5)
    assert np.allclose(fast.scores, slow.scores, rtol=1e-5, atol=1e-4)


@pytest.mark.slow
@needs_openvino
def test_an_export_of_other_weights_is_refused(exported, model, cohort, tmp_path):
    torch.manual_seed(5)
    mixed = tmp_path / "mixed"
    grounder.save(mixed, grounder.build("small", ["bright spot"]))
    for each in exported.iterdir():
        if each.name not in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            (mixed / each.name).write_bytes(each.read_bytes())
    result = run("ground", "--model", mixed, cohort.folder / "image0.png", "spot")
    assert (result.exit_code, "made from other weights" in result.stderr) == (1, True)
    assert (
        run("ground", "--model", mixed, "--backend", "torch", cohort.folder / "image0.png", "x").exit_code
        == 0
    )
    result = run("ground", "--model", model, "--backend", "exported", cohort.folder / "image0.png", "spot")
    assert (result.exit_code, "create it with medground export" in result.stderr) == (1, True)


@pytest.mark.slow
@needs_openvino
def test_an_export_that_shares_the_weights_of_its_folder_is_smaller_and_predicts_the_same(tmp_path):
    torch.manual_seed(0)
    built = grounder.build("small", ["bright spot"], architecture="text-query", members=2)
    built.network.half().float()  # as in half precision, so graphs can hold the weights in it
    weights = {name: each.half() for name, each in built.network.state_dict().items()}
    for folder in (tmp_path / "whole", tmp_path / "shared"):
        grounder.save(folder, built)
        checkpoints.save(folder / "model.safetensors", weights, built.config.to_json())
        exporting.export(grounder.load(folder), folder, folder, shared=folder.name == "shared")
    sizes = [
        sum(path.stat().st_size for path in tmp_path.glob(f"{each}/*.bin")) for each in ("whole", "shared")
    ]
    assert sizes[1] < sizes[0] / 3
    picture = torch.rand(2, 160, 160)
    texts = built.tokenize(["spot", "a bright spot"])
    whole, shared = (backends.load(tmp_path / each) for each in ("whole", "shared"))
    one, other = (backends.query_image(each, picture)(*texts) for each in (whole, shared))
    assert np.array_equal(one.boxes, other.boxes) and np.array_equal(one.present, other.present)
    (tmp_path / "shared" / "model.safetensors").unlink()
    with pytest.raises(MedgroundError, match=r"no model\.safetensors"):
        backends.load(tmp_path / "shared")


@pytest.mark.slow
@needs_openvino
@pytest.mark.parametrize("name", engine.GRAPHS)
def test_an_export_has_no_work_for_openvino_that_can_be_done_before(exported, name):
    content = (exported / f"{name}.xml").read_text()
    assert 'type="BatchNormInference"' not in content and 'type="Pad"' not in content
    graph = openvino().Core().read_model(exported / f"{name}.xml")
    constants = [each for each in graph.get_ops() if each.get_type_name() == "Constant"]
    keys = {
        (str(each.get_element_type()), *each.output(0).get_shape(), each.data.tobytes()) for each in constants
    }
    assert len(keys) == len(constants)


@pytest.mark.slow
@needs_openvino
def test_the_converter_does_not_report_home(exported):
    from openvino.tools.ovc import convert_impl, telemetry_utils

    for module in (convert_impl, telemetry_utils):
        assert module.tm.__name__ == "openvino.tools.ovc.telemetry_stub"
