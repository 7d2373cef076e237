"""Zero-shot classification in the space of ASG's heads, against a slow computation, and as a command."""

import json

import labeled
import pytest
import torch
import toy
from click.testing import CliRunner
from torch.nn import functional

from medground.cli.main import cli
from medground.downstream import frozen_encoders, joint_space
from medground.errors import MedgroundError
from medground.models import grounder, letterboxed
from medground.objectives import saved_heads
from medground.objectives.learner import Learner

CLASSES = ("Edema", "Pleural Thickening")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    here = tmp_path_factory.mktemp("joint")
    (here / "images").mkdir()
    toy.make(here / "images", count=12)
    labeled.write(here / "images", here / "labels.jsonl", CLASSES)
    torch.manual_seed(0)
    texts = ["pulmonary edema", "no pleural thickening"]
    saved = grounder.save(here / "model", grounder.build("small", texts, image_size=64))
    saved_heads.save(here / "model", Learner(saved, ["asg"]).objectives, saved.name)
    return here


def slow_text(model, asg, text):
    """The head of the mean over the tokens of one text, special tokens included."""
    ids, mask = model.tokenize([text])
    tokens = model.network.encode_texts(ids, mask)[0][mask[0]]
    return functional.normalize(asg.report(tokens.mean(dim=0, keepdim=True)), dim=1)[0]


@pytest.mark.slow
@torch.inference_mode()
def test_a_score_is_the_difference_of_two_cosines(folder):
    encoder = frozen_encoders.load(str(folder / "model"), "joint")
    both = torch.stack(
        [letterboxed.read(folder / "images" / f"image{n}.png", 64).picture() for n in range(3)]
    )
    features = encoder(both[:, :1], both[:, 1:])
    assert torch.allclose(features.norm(dim=1), torch.ones(3), atol=1e-5)
    found = joint_space.zero_shot(CLASSES, encoder.texts)(features.numpy())
    model = grounder.load(folder / "model")
    asg = saved_heads.load(folder / "model", model)["asg"]
    for k, name in enumerate(("pulmonary edema", "pleural thickening")):
        present, absent = (slow_text(model, asg, text) for text in (name, f"no {name}"))
        expected = features @ present - features @ absent
        assert found[:, k] == pytest.approx(expected.numpy(), abs=1e-5)


def run(folder, *args):
    words = ["probe", f"{folder}/labels.jsonl", "--images", f"{folder}/images", "--fit", "zero-shot"]
    return CliRunner().invoke(cli, [*words, *args])


@pytest.mark.slow
def test_the_command_needs_no_training_image(folder):
    result = run(folder, "--encoder", f"{folder}/model", "--layer", "joint")
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == 8 and {line["fit"] for line in lines} == {"zero-shot"}
    assert set(lines[0]["scores"]) == set(CLASSES)


def test_zero_shot_needs_the_joint_layer(folder):
    result = run(folder, "--encoder", f"{folder}/model")
    assert (result.exit_code, "--fit zero-shot needs --layer joint" in result.stderr) == (2, True)


@pytest.mark.slow
def test_a_model_without_heads_of_asg_has_no_joint_layer(folder, tmp_path):
    saved = grounder.save(tmp_path, grounder.load(folder / "model"))
    with pytest.raises(MedgroundError, match=r"no heads\.safetensors"):
        frozen_encoders.load(str(tmp_path), "joint")
    saved_heads.save(tmp_path, Learner(saved, ["gk-mvlp"]).objectives, saved.name)
    with pytest.raises(MedgroundError, match="needs heads of asg; it has gk-mvlp"):
        frozen_encoders.load(str(tmp_path), "joint")
