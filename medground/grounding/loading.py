"""A model folder of either kind: one of medground, or one that transformers saved."""

from dataclasses import replace
from pathlib import Path

from medground import locations
from medground.errors import MedgroundError
from medground.grounding import model as own
from medground.grounding.adapters import model as adapters
from medground.grounding.adapters.model import ForeignModel
from medground.grounding.model import GroundingModel
from medground.models import view_check


def load(
    model: str | Path = "example",
    *,
    device: str = "auto",
    backend: str = "auto",
    calibration: bool = True,
    flip_correction: bool = True,
    any_view: bool = False,
    trust_remote_code: bool = False,
    prompt: str | None = None,
) -> GroundingModel | ForeignModel:
    """Return the model of a folder, ready to predict; "example" is the model included in medground.

    model: a folder that `pretrain`, `finetune` or `export` wrote, or a model of transformers.
    device: "cpu", "cuda", "cuda:1"; "auto" uses a GPU if there is one.
    backend: "torch", "exported", "bf16", or "auto": the export if the folder holds one, otherwise torch.
    calibration: calibrate scores if the folder holds a calibration.
    flip_correction: correct flipped images if the folder holds a flip correction.
    any_view: do not check whether images are frontal chest X-rays.
    trust_remote_code: run code in the folder of a model of transformers.
    prompt: what a model of transformers gets, with {phrase} for the phrase; None: the prompt of its adapter.

    Raises MedgroundError if the folder holds no such model, or for an option that it cannot have.
    """
    foreign = None
    if str(model) != locations.EXAMPLE:
        foreign = adapters.load(Path(model), device, trust_remote_code, prompt)
    if foreign is None:
        if prompt is not None:
            raise MedgroundError("a prompt is for models of transformers: leave it out")
        return own.load(
            model,
            device=device,
            backend=backend,
            calibration=calibration,
            flip_correction=flip_correction,
            any_view=any_view,
        )
    if backend not in ("auto", "torch"):
        raise MedgroundError(f"backend {backend}: models of transformers run with torch")
    return foreign if any_view else replace(foreign, view_check=view_check.load())
