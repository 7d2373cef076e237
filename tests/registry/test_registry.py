"""The tables of the registry: every target exists and is what its table says."""

import pytest
from commands import COMMANDS, command_of

from medground import registry
from medground.anatomy import mask_boxes
from medground.errors import MedgroundError
from medground.evaluation import protocols
from medground.models import grounder
from medground.models.network import Network
from medground.objectives.learner import Learner
from medground.objectives.objective import Objective

TABLES = [
    registry.ARCHITECTURES,
    registry.OBJECTIVES,
    registry.DETECTORS,
    registry.MASK_FORMATS,
    registry.MODEL_ADAPTERS,
    registry.PROTOCOLS,
    registry.PREDICTION_FORMATS,
    registry.OUTPUT_FORMATS,
    registry.DATASETS,
]
ENTRIES = [(table.group, name, entry) for table in TABLES for name, entry in table.built_in.items()]


@pytest.mark.parametrize(("group", "name", "entry"), ENTRIES, ids=lambda each: str(each)[:40])
def test_every_target_can_be_loaded(group, name, entry):
    loaded = entry.load()
    assert callable(loaded.measure) if group == "medground.protocols" else callable(loaded)


OPTIONS = [
    (
        "pretrain",
        "objective",
        ["agp", "agp-corners", "asg", "asg-cls", "gk-mvlp", "gk-mvlp-unmasked", "writer", "mdetr"],
    ),
    ("finetune", "objective", ["agp", "agp-corners", "mdetr", "taco", "taco-rounded"]),
    ("pretrain", "architecture", [*registry.ARCHITECTURES]),
    ("train-detector", "detector", [*registry.DETECTORS]),
    ("detect-anatomy", "detector", [*registry.DETECTORS]),
    ("detect-anatomy", "mask_format", [*registry.MASK_FORMATS]),
    ("evaluate", "protocols", [*registry.PROTOCOLS]),
    ("evaluate", "input_format", [*registry.PREDICTION_FORMATS]),
    ("evaluate", "compare_format", [*registry.PREDICTION_FORMATS]),
    ("ground", "output_format", [*registry.OUTPUT_FORMATS]),
]


@pytest.mark.parametrize(("command", "option", "names"), OPTIONS)
def test_commands_offer_the_names_of_the_tables(command, option, names):
    (found,) = (each for each in command_of((command,)).params if each.name == option)
    assert [*found.type.choices] == names


def test_convert_has_a_command_per_data_set():
    found = {path[1] for path in COMMANDS if path[0] == "convert" and path[1:]}
    assert found == {*registry.DATASETS, "weights", "predictions"}


def test_architectures_are_networks_and_objectives_are_objectives():
    assert all(issubclass(each.load(), Network) for each in registry.ARCHITECTURES.built_in.values())
    assert all(issubclass(each.load(), Objective) for each in registry.OBJECTIVES.built_in.values())


def test_losses_that_need_several_boxes_are_left_out_without_them():
    agp = registry.OBJECTIVES["agp"]
    assert agp.weights(frozenset()) == {"l1": 5, "giou": 2, "present": 1}
    assert agp.weights(frozenset({"several-boxes"})).keys() == {"l1", "giou", "present", "score", "near"}


def test_an_objective_names_the_architecture_that_it_requires():
    with pytest.raises(MedgroundError, match="--objective taco requires --architecture transvg"):
        registry.check_losses(["agp", "taco"], [], "mdetr")
    for name in ("asg", "gk-mvlp"):  # the patches of text-query have further columns
        with pytest.raises(MedgroundError, match=f"{name} requires --architecture transvg or mdetr"):
            registry.check_losses([name], [], "text-query")
    registry.check_losses(["writer"], [], "text-query")


def test_mdetrs_losses_require_the_published_norm():
    registry.check_losses(["mdetr"], [], "mdetr")
    with pytest.raises(MedgroundError, match="--objective mdetr requires --norm post"):
        Learner(grounder.build("small", ["x"], architecture="mdetr"), ["mdetr"])


def test_mask_formats_may_have_one_file_for_all_images(tmp_path):
    whole = tmp_path / "masks.json"
    whole.write_text('{"images": [], "annotations": [], "categories": []}')
    assert mask_boxes.Source(whole, mask_boxes.Options(kind="coco")).whole is not None
    assert mask_boxes.Source(whole, mask_boxes.Options(kind="cxas")).whole is None


def test_a_target_that_is_missing_is_named():
    with pytest.raises(MedgroundError, match=r"medground\.models\.transvg:Nothing: cannot be imported"):
        registry.attribute("medground.models.transvg:Nothing")
    with pytest.raises(MedgroundError, match="no_such_module:Thing: cannot be imported"):
        registry.attribute("no_such_module:Thing")


def test_a_protocol_that_contradicts_its_entry_is_an_error(monkeypatch):
    entry = registry.Protocol(target="medground.evaluation.protocols:SET", help="h", reads="heatmaps")
    monkeypatch.setitem(registry.PROTOCOLS.built_in, "set", entry)
    with pytest.raises(MedgroundError, match=r"protocols:SET: takes phrases, but its entry reads heatmaps$"):
        protocols.named("set")
