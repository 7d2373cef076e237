"""Image encoders of folders and hub names, with the preprocessing of their training.

The encoder is that of a model folder, of a folder of `medground export --encoders`, or any pre-trained one
that `--image-encoder` takes. Images are windowed, letterboxed and scaled as in its training.

Letters: B images, S side of the square, C channels, D width, h x w cells of a feature map.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from medground import checkpoints, locations, model_dir, ops, strict_json
from medground.errors import BadRecord, MedgroundError
from medground.models import encoder_folders, encoders, grounder, pretrained, pyramid
from medground.models.grounder import Grounder


@dataclass(frozen=True)
class ImageEncoder:
    """A network that makes feature maps of images, and how its images are scaled.

    name: the hash of its weights. size: side of its squares. equalized: whether gray values are spread
    first. grey: mean and standard deviation of its images, as in GrounderConfig. fills: whether padding gets
    the mean color. model: the folder of a grounding model, whose training is recorded.
    """

    name: str
    network: nn.Module
    size: int
    equalized: bool
    grey: Sequence[float] | None
    fills: bool = False
    model: Path | None = None

    def copied(self) -> "ImageEncoder":
        """Return the same encoder with weights of its own."""
        return replace(self, network=copy.deepcopy(self.network))

    def pixels(self, images: Tensor, inside: Tensor) -> Tensor:
        """Return the network's (B, C, S, S) input for (B, 1, S, S) images in [0, 1] and their insides."""
        if self.equalized:
            images = (ops.equalize(images) + 1) / 2 * inside
        return encoders.scaled(self.network, images, self.grey, inside if self.fills else None)

    def pooled(self, images: Tensor, inside: Tensor) -> Tensor:
        """Return the (B, D) [CLS] tokens of a vision transformer, or means over another's feature map."""
        pixels = self.pixels(images, inside)
        if isinstance(self.network, encoders.PatchTokens):
            found: Any = self.network.model(pixel_values=pixels, interpolate_pos_encoding=True)
            first: Tensor = found.last_hidden_state[:, 0]
            return first
        last: Tensor = self.network(pixels).feature_maps[-1]
        return last.mean(dim=(2, 3))

    def maps(self, images: Tensor, inside: Tensor) -> list[Tensor]:
        """Return (B, D, h, w) feature maps, one for each stride, fine to coarse.

        A vision transformer has one. The last map of a stride is taken, and none that is coarser than the
        encoder's output.
        """
        return pyramid.maps(self.network, self.pixels(images, inside))


def is_model(place: str) -> bool:
    """Return whether `place` is the folder of a grounding model, or the example model."""
    return place == locations.EXAMPLE or Path(place, model_dir.TOKENIZER).is_file()


def load(place: str, size: int | None = None, device: str = "cpu") -> ImageEncoder:
    """Return the image encoder of a folder, or of a hub name with the prefix hub:, ready for predictions.

    size: of the images, None for that of the training, or 224. Raises MedgroundError for a folder without an
    encoder.
    """
    if is_model(place):
        folder = locations.grounder(place)
        return of_model(grounder.load(folder, device), folder, size)
    facts = Path(place, encoder_folders.FACTS)
    if not facts.is_file():
        return _of_encoder(place, size, False, device)
    try:
        equalized = strict_json.config(facts)["equalized"]
        whole = strict_json.config(Path(place, encoder_folders.IMAGE, encoder_folders.PREPROCESSING))
        size = size or int(whole["size"]["height"])
    except (BadRecord, ValueError, KeyError, TypeError, OSError):
        raise MedgroundError(f"{facts}: damaged; run medground export --encoders again") from None
    return _of_encoder(str(Path(place, encoder_folders.IMAGE)), size, bool(equalized), device)


def of_model(model: Grounder, folder: Path, size: int | None = None) -> ImageEncoder:
    """Return the image encoder of a grounding model that was loaded from `folder`."""
    network = model.network
    side = encoders.side_for(network.image_encoder, size or model.config.image_size)
    fills = network.padding == "mean"
    pictures = network.image_encoder.eval()
    return ImageEncoder(model.name, pictures, side, network.equalise, network.grey, fills, folder)


def _of_encoder(place: str, size: int | None, equalized: bool, device: str) -> ImageEncoder:
    network = pretrained.load_image_encoder(place).to(device).eval()
    weights = Path(locations.encoder(place), checkpoints.WEIGHTS)
    name = checkpoints.hash_of(weights) if weights.is_file() else place
    side = encoders.side_for(network, size or 224)
    return ImageEncoder(name, network, side, equalized, pretrained.grey_of(place, colors=True))
