"""A trained decoder in one safetensors file, with its shape, classes and encoder in the header.

The header has the digests of the training and validation patients, as models have (`leakage`). If the encoder
was trained, too, its weights are in the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medground import checkpoints, leakage, site_key
from medground.downstream.image_encoders import ImageEncoder
from medground.downstream.segment import stage
from medground.downstream.segment.decoders import Shape
from medground.downstream.segment.fit import Segmenter
from medground.errors import MedgroundError
from medground.records import Mask

KIND = "segmentation"


@dataclass(frozen=True)
class Head:
    """A decoder that was read from a file: its shape, classes, encoder, weights and training record."""

    path: Path
    shape: Shape
    classes: list[str]
    encoder: str
    unfreeze: bool
    training: dict[str, Any]
    keys: dict[str, Any]
    weights: dict[str, Tensor]

    @property
    def leaks(self) -> bool:
        """True if its training was allowed to leak."""
        return bool(self.training.get("leakage"))


def save(
    path: Path, segmenter: Segmenter, job: stage.Job, seen: Sequence[Mask], keys: dict[str, Any], leaks: bool
) -> None:
    """Write the decoder of a run; `seen` are masks of its training and validation images."""
    key = site_key.find_or_create()
    training = {"subjects": sorted(leakage.digests_of(seen, key)), "key": key.name}
    config = {
        "kind": KIND,
        "shape": job.shape.to_json(),
        "classes": job.data.classes,
        "encoder": job.encoder.name,
        "unfreeze": job.settings.unfreeze,
        "training": training | ({"leakage": True} if leaks else {}),
        "keys": keys,
    }
    checkpoints.save(path, segmenter.kept(), config)


def read(path: Path) -> Head:
    """Return the head of a file; raise MedgroundError for any other file."""
    weights, config = checkpoints.load(path)
    try:
        if config["kind"] != KIND:
            raise TypeError
        shape = Shape.from_json(config["shape"])
        classes, keys, training = list(config["classes"]), dict(config["keys"]), dict(config["training"])
        encoder, unfreeze = str(config["encoder"]), bool(config["unfreeze"])
    except (KeyError, TypeError, ValueError, MedgroundError):
        raise MedgroundError(f"{path}: not a head of medground segment --save-head") from None
    if len(classes) != shape.classes or not all(isinstance(each, str) for each in classes):
        raise MedgroundError(f"{path}: its classes do not fit its decoder")
    return Head(path, shape, classes, encoder, unfreeze, training, keys, weights)


def build(head: Head, encoder: ImageEncoder, device: str = "cpu") -> Segmenter:
    """Return the segmenter of a head over its encoder; raise MedgroundError for another encoder."""
    if head.encoder != encoder.name or head.shape.maps != tuple(stage.maps_of(encoder)):
        raise MedgroundError(f"{head.path}: was trained over another encoder; give that one as --encoder")
    with torch.device("meta"):  # weights of another shape take no memory
        decoder = head.shape.build()
    if head.unfreeze:
        encoder = encoder.copied()
    parts = nn.ModuleDict({"decoder": decoder} | ({"network": encoder.network} if head.unfreeze else {}))
    checkpoints.check_fit(parts, head.weights, head.path)
    parts.load_state_dict(head.weights, assign=True)
    return Segmenter(encoder, decoder.to(device), head.unfreeze).to(device)
