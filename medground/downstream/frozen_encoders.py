"""Frozen image encoders: images -> one feature each, before any head.

The encoder is that of a model folder, of a folder of `medground export --encoders`, or any pre-trained one
that `--image-encoder` takes. Images are windowed, letterboxed and scaled as in its training.

Letters: B images, S side of the square, D width.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medground import checkpoints, locations, model_dir, ops
from medground.downstream import joint_space
from medground.errors import MedgroundError
from medground.models import encoder_folders, encoders, grounder, pretrained
from medground.models.network import Network
from medground.objectives import heads

Layer = Literal["encoder", "visual", "joint"]


@dataclass(frozen=True)
class FrozenEncoder:
    """An encoder with the `size` of its images; `features` maps (B, 1, S, S) images in [0, 1] and their
    (B, 1, S, S) insides to (B, D).

    name: the hash of its weights. model: the folder of a grounding model, whose training is recorded. texts:
    of the joint layer, maps U texts to (U, D) features of the same space.
    """

    name: str
    size: int
    features: Callable[[Tensor, Tensor], Tensor]
    device: str = "cpu"
    model: Path | None = None
    texts: Callable[[list[str]], Tensor] | None = None

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
    head, with length 1. size: of the images, None for
    that of the training, or 224. Raises MedgroundError for a folder without an encoder.
    """
    if place == locations.EXAMPLE or Path(place, model_dir.TOKENIZER).is_file():
        return _of_model(locations.grounder(place), layer, size, device)
    if layer != "encoder":
        raise MedgroundError(f"{place}: --layer {layer} needs the folder of a grounding model")
    facts = Path(place, encoder_folders.FACTS)
    if not facts.is_file():
        return _of_encoder(place, size, False, device)
    try:
        held = json.loads(facts.read_text())
        equalized = held["equalized"]
        whole = json.loads(Path(place, encoder_folders.IMAGE, encoder_folders.PREPROCESSING).read_text())
        size = size or int(whole["size"]["height"])
    except (ValueError, KeyError, TypeError, OSError):
        raise MedgroundError(f"{facts}: damaged; run medground export --encoders again") from None
    return _of_encoder(str(Path(place, encoder_folders.IMAGE)), size, bool(equalized), device)


def _of_model(folder: Path, layer: Layer, size: int | None, device: str) -> FrozenEncoder:
    model = grounder.load(folder, device)
    network: Network = model.network
    side = encoders.side_for(network.image_encoder, size or model.config.image_size)

    def visual(images: Tensor, inside: Tensor) -> Tensor:
        return heads.pooled(network.encode_images(images, inside))

    def plain(images: Tensor, inside: Tensor) -> Tensor:
        fill = inside if network.padding == "mean" else None
        return pooled(network.image_encoder, images, inside, network.equalise, network.grey, fill)

    if layer == "joint":
        space = joint_space.load(folder, model)
        return FrozenEncoder(model.name, side, space.images, device, folder, space.texts)
    return FrozenEncoder(model.name, side, visual if layer == "visual" else plain, device, folder)


def _of_encoder(place: str, size: int | None, equalized: bool, device: str) -> FrozenEncoder:
    network = pretrained.load_image_encoder(place).to(device).eval()
    grey = pretrained.grey_of(place, colors=True)
    weights = Path(locations.encoder(place), checkpoints.WEIGHTS)
    name = checkpoints.hash_of(weights) if weights.is_file() else place

    def plain(images: Tensor, inside: Tensor) -> Tensor:
        return pooled(network, images, inside, equalized, grey)

    return FrozenEncoder(name, encoders.side_for(network, size or 224), plain, device)


def pooled(
    encoder: nn.Module,
    images: Tensor,
    inside: Tensor,
    equalized: bool,
    grey: Sequence[float] | None,
    fill: Tensor | None = None,
) -> Tensor:
    """Return the (B, D) [CLS] tokens of a vision transformer, or means over another encoder's feature map.

    The arguments are those of `Network` and of `encoders.feature_map`.
    """
    if equalized:
        images = (ops.equalize(images) + 1) / 2 * inside
    if isinstance(encoder, encoders.PatchTokens):
        scaled = encoders.scaled(encoder, images, grey, fill)
        found: Any = encoder.model(pixel_values=scaled, interpolate_pos_encoding=True)
        first: Tensor = found.last_hidden_state[:, 0]
        return first
    return encoders.feature_map(encoder, images, grey, fill).mean(dim=(2, 3))
