"""The heads of a run's objectives, in the model folder: projections, tag decoder, matching, writer.

A prediction of boxes does not need them. Zero-shot classification, reports and further training do. The file
names the model that it belongs to, so the heads of an earlier model in the folder are refused. With
`--ema-decay` the network is an average, and the heads are those of the last step.
"""

from pathlib import Path

from torch import nn

from medground import checkpoints, registry
from medground.errors import MedgroundError
from medground.model_dir import HEADS
from medground.models.grounder import Grounder
from medground.objectives.learner import Learner


def save(folder: Path, objectives: nn.ModuleDict, model: str) -> None:
    """Write the heads of a saved model; delete those of an earlier one if the objectives have none.

    model: the model's name, the hash of its weights.
    """
    weights = objectives.state_dict()
    if not weights:
        (folder / HEADS).unlink(missing_ok=True)
        return
    checkpoints.save(folder / HEADS, weights, {"objectives": [*objectives], "model": model})


def names_of(folder: Path) -> list[str]:
    """Return the names of the objectives whose heads the folder has."""
    if not (folder / HEADS).is_file():
        return []
    held = checkpoints.read_config(folder / HEADS).get("objectives")
    if not isinstance(held, list) or not all(isinstance(each, str) for each in held):
        raise MedgroundError(f"{folder / HEADS}: damaged; copy the model folder again")
    return held


def load(folder: Path, model: Grounder) -> nn.ModuleDict:
    """Return the objectives of the model in the folder by name, in evaluation mode, on its device.

    Raises MedgroundError if there are none, or if they are of another model.
    """
    names, path = names_of(folder), folder / HEADS
    if not names:
        raise MedgroundError(f"{folder}: no {HEADS}; pretrain writes it, with objectives that have heads")
    if unknown := sorted({*names} - {*registry.OBJECTIVES}):
        raise MedgroundError(f"{path}: the objective {unknown[0]!r} is not known here")
    weights, held = checkpoints.load(path)
    if held.get("model") != model.name:
        raise MedgroundError(f"{path}: heads of another model; copy the model folder again")
    objectives = Learner(model, names).objectives
    checkpoints.fit(objectives, weights, path)
    return objectives.to(model.device).eval()
