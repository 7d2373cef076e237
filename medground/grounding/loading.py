"""A model folder of either kind: one of medground, or one that transformers saved."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from medground import locations
from medground.errors import MedgroundError
from medground.grounding import starting

if TYPE_CHECKING:  # imported while graphs are compiled
    from medground.grounding.adapters.model import ForeignModel
    from medground.grounding.model import GroundingModel

Model: TypeAlias = "GroundingModel | ForeignModel"
Ready: TypeAlias = "Callable[[Path | None], Model]"


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
) -> Model:
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
    begun = start(
        model,
        device=device,
        backend=backend,
        calibration=calibration,
        flip_correction=flip_correction,
        any_view=any_view,
        trust_remote_code=trust_remote_code,
        prompt=prompt,
    )
    return begun(None)


def start(
    model: str | Path,
    *,
    device: str,
    backend: str,
    calibration: bool,
    flip_correction: bool,
    any_view: bool,
    trust_remote_code: bool,
    prompt: str | None,
) -> Ready:
    """Begin to load a model in threads; return the function that waits for it and returns it.

    That function takes the absolute path of an image that will be predicted, or None: the image is read while
    the network loads. The arguments are those of `load`. Both functions raise MedgroundError as `load` does.
    """
    if str(model) != locations.EXAMPLE:
        from medground.grounding.adapters import model as adapters

        foreign = adapters.load(Path(model), device, trust_remote_code, prompt)
        if foreign is not None:
            return lambda _: _checked(foreign, backend, any_view)
    if prompt is not None:
        raise MedgroundError("a prompt is for models of transformers: leave it out")
    begun = starting.start(model, device, backend, any_view)

    def ready(image: Path | None) -> "GroundingModel":
        from medground.grounding import model as own

        return own.of(begun, backend, calibration, flip_correction, image)

    return ready


def _checked(foreign: "ForeignModel", backend: str, any_view: bool) -> "ForeignModel":
    """Return a model of transformers with the view check; raise MedgroundError for another backend."""
    if backend not in ("auto", "torch"):
        raise MedgroundError(f"backend {backend}: models of transformers run with torch")
    if any_view:
        return foreign
    from medground.models import view_check

    return replace(foreign, view_check=view_check.load())
