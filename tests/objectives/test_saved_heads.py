"""The heads of objectives in a model folder: they come back as they were, and not those of another model."""

import pytest
import torch

from medground.errors import MedgroundError
from medground.models import grounder
from medground.objectives import saved_heads
from medground.objectives.learner import Learner


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return grounder.build("small", ["bright spot"])


@pytest.mark.slow
def test_heads_come_back_with_their_weights(model, tmp_path):
    saved = grounder.save(tmp_path, model)
    torch.manual_seed(1)
    objectives = Learner(saved, ["agp", "asg", "gk-mvlp"]).objectives
    saved_heads.save(tmp_path, objectives, saved.name)
    found = saved_heads.load(tmp_path, grounder.load(tmp_path))
    assert saved_heads.names_of(tmp_path) == ["agp", "asg", "gk-mvlp"]
    own, other = objectives.state_dict(), found.state_dict()
    assert own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)
    rows = torch.rand(3, model.config.width)
    assert torch.equal(objectives.eval()["asg"].image(rows), found["asg"].image(rows))
    assert not found.training


def test_heads_of_another_model_are_refused(model, tmp_path):
    saved = grounder.save(tmp_path, model)
    saved_heads.save(tmp_path, Learner(saved, ["asg"]).objectives, "of another one")
    with pytest.raises(MedgroundError, match=r"heads\.safetensors: heads of another model"):
        saved_heads.load(tmp_path, saved)


def test_objectives_without_heads_leave_none(model, tmp_path):
    saved = grounder.save(tmp_path, model)
    saved_heads.save(tmp_path, Learner(saved, ["asg"]).objectives, saved.name)
    saved_heads.save(tmp_path, Learner(saved, ["agp"]).objectives, saved.name)
    assert saved_heads.names_of(tmp_path) == []
    with pytest.raises(MedgroundError, match=r"no heads\.safetensors; pretrain writes it"):
        saved_heads.load(tmp_path, saved)
