"""A network that has learned nothing, and toy images to run `medground ground` on."""

from pathlib import Path

import pytest
import torch
import toy
from toy_runs import run

from medground.models import grounder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory) -> toy.Toy:
    return toy.make(tmp_path_factory.mktemp("toy"), count=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    built = grounder.build("small", ["bright spot", "left lung"], architecture="mdetr")
    with torch.no_grad():
        built.network.box[-1].weight *= 30  # before training its boxes are all alike: spread them
    grounder.save(folder, built)
    return folder


@pytest.fixture
def ground(model, cohort):
    """Run `medground ground` on all phrases of the toy cohort."""
    return lambda *flags: run(
        "ground", "--model", model, "--images", cohort.folder, "--phrases", cohort.phrases, *flags
    )
