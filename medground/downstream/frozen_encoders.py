"""Frozen image encoders: images -> one feature each, before any head.

The encoders are those of `image_encoders`, or a grounding model's visual layers or joint space.
Letters: B images, S side of the square, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from medground import locations
from medground.downstream import image_encoders, joint_space
from medground.errors import MedgroundError
from medground.models import grounder
from medground.models.network import Network
from medground.objectives import heads

Layer = Literal["encoder", "visual", "joint"]


@dataclass(frozen=True)
class FrozenEncoder:
    """An encoder with the `size` of its images; `features` maps (B, 1, S, S) images in [0, 1] and their
    (B, 1, S, S) insides to (B, D).

    name: the hash of its weights. model: the folder of a grounding model, whose training is recorded. texts:
    of the joint layer, maps U texts to (U, D) features of the same space. network: if `features` takes its
    feature maps instead of images, too.
    """

    name: str
    size: int
    features: Callable[[Tensor, Tensor], Tensor]
    device: str = "cpu"
    model: Path | None = None
    texts: Callable[[list[str]], Tensor] | None = None
    network: Network | None = None

    @property
    def width(self) -> int:
        """The length D of a feature."""
        square = torch.zeros(1, 1, self.size, self.size, device=self.device)
        return int(self(square, torch.ones_like(square)).shape[1])

    @torch.inference_mode()
    def __call__(self, images: Tensor, inside: Tensor) -> Tensor:
        """Return the (B, D) features."""
        return self.features(images.to(self.device), inside.to(self.device)).float().cpu()


def load(place: str, layer: Layer = "encoder", size: int | None = None, device: str = "cpu") -> FrozenEncoder:
    """Return the encoder of a folder, or of a hub name with the prefix hub:.

    layer: "encoder" is the image encoder's output, the [CLS] token of a ViT or the mean over a feature map;
    "visual" the mean over a grounding model's patches after its visual layers; "joint" that of ASG's image
    head, with length 1. size: that of `image_encoders.load`. Raises MedgroundError for a folder without an
    encoder.
    """
    if layer == "encoder":
        own = image_encoders.load(place, size, device)
        return FrozenEncoder(own.name, own.size, own.pooled, device, own.model)
    if not image_encoders.is_model(place):
        raise MedgroundError(f"{place}: --layer {layer} needs the folder of a grounding model")
    folder = locations.grounder(place)
    model = grounder.load(folder, device)
    side = image_encoders.of_model(model, folder, size).size
    if layer == "joint":
        space = joint_space.load(folder, model)
        return FrozenEncoder(model.name, side, space.images, device, folder, space.texts, model.network)

    def visual(images: Tensor, inside: Tensor) -> Tensor:
        return heads.pooled(model.network.encode_images(images, inside))

    return FrozenEncoder(model.name, side, visual, device, folder, network=model.network)
