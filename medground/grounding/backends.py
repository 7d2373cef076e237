"""Backends of prediction: a torch network, or an export of `medground export`, which is faster on a CPU.

Letters: S side of the square, N texts, T tokens.
"""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from medground import processors
from medground.errors import MedgroundError
from medground.grounding import engine
from medground.grounding.engine import EncodedImage, Exported, Query
from medground.model_dir import ModelDir

if TYPE_CHECKING:  # an export needs no torch
    from medground.models.grounder import Grounder

log = logging.getLogger(__name__)
Model: TypeAlias = "Grounder | Exported"


def encode(model: Model, picture: Any) -> EncodedImage:
    """Return a (2, S, S) picture, encoded."""
    if isinstance(model, Exported):
        return model.encode(picture)
    from medground.grounding import torch_backend

    return torch_backend.encode(model, picture)


def query_encoded(model: Model, image: EncodedImage) -> Query:
    """Return the function from (N, T) ids and mask of texts to the outputs on an encoded image."""
    # positions of the published networks are those of patches in the whole square
    part = image if model.config.norm == "post" else image.without_padding()
    if isinstance(model, Exported):
        return model.query(part)
    from medground.grounding import torch_backend

    return torch_backend.query(model, part)


def distance(model: Model, image: EncodedImage) -> float | None:
    """Return the distance of the image from those of the calibration, 1 at the limit; None if unknown."""
    return float(image.patches[0, 0, -1]) if model.config.familiar else None


def query_image(model: Model, picture: Any) -> Query:
    """Encode a (2, S, S) picture; return the function from (N, T) ids and mask of texts to outputs."""
    return query_encoded(model, encode(model, picture))


def load(folder: Path, device: str = "cpu", backend: str = "auto") -> Model:
    """Return the model of a folder with the backend auto, torch, exported or bf16.

    auto uses the export if the folder holds one and the device is the CPU. If OpenVINO does not work or a
    graph is damaged, and the folder has weights, it uses torch, with a warning. Raises MedgroundError if the
    export was made from other weights than those in the folder.
    """
    return start(folder, device, backend)()


def start(folder: Path, device: str = "cpu", backend: str = "auto") -> Callable[[], Model]:
    """Begin to load the model of a folder; return the function that waits for it and returns it.

    An export loads in threads, a torch network when the function is called. Both raise as `load` does.
    """
    files = ModelDir(folder)
    if backend == "torch" or (backend == "auto" and not _uses_export(files, device)):
        return partial(_with_torch, folder, device)
    if device != "cpu":
        log.warning("%s: an export runs on the CPU", folder)
    if backend == "bf16":
        processors.warn_if_bf16_is_slow("--backend bf16", "--backend exported")
    facts = files.export()
    if backend != "auto" or not files.has_weights:
        return engine.start(files, facts, "bf16" if backend == "bf16" else "f32").ready
    try:
        ready = engine.start(files, facts).ready
    except engine.OtherExport:
        raise
    except MedgroundError as problem:
        return partial(_instead, folder, device, problem)

    def found() -> Model:
        try:
            return ready()
        except engine.OtherExport:
            raise
        except MedgroundError as problem:
            return _instead(folder, device, problem)

    return found


def _uses_export(files: ModelDir, device: str) -> bool:
    """Return whether the backend auto uses the export; also on a GPU if the folder has no weights."""
    return files.has_export and (device == "cpu" or not files.has_weights)


def _instead(folder: Path, device: str, problem: MedgroundError) -> "Grounder":
    log.warning("%s; predicting with torch, which takes seconds to start", problem)
    return _with_torch(folder, device)


def _with_torch(folder: Path, device: str) -> "Grounder":
    from medground.models import grounder

    return grounder.load(folder, device)
