"""The view check: is an image one upright frontal chest X-ray?

Laterals, sections of CT, figures of several panels, rotated images and other pictures are not.
EfficientNet-Lite0 encodes the image with frozen ImageNet weights, and a linear layer scores its coarse
feature map. `tools/train_view` trains that layer. Letters: B images, S side of the square, F features.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from medground import checkpoints, shipped
from medground.errors import MedgroundError
from medground.images import Pixels
from medground.models import letterboxed
from medground.models.lite import GREY, STAGES, Lite0

KIND = "view-check"
SIZE = 224
CELLS = 3  # the last feature map is averaged to 3 x 3 cells
FEATURES = CELLS**2 * STAGES[-1][-1]


class Network(nn.Module):
    """(B, 1, S, S) images in [0, 1] -> (B,) logits of a single upright frontal view."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = Lite0(), nn.Linear(FEATURES, 1)

    def features(self, images: Tensor) -> Tensor:
        """Return (B, F)."""
        normal = ((images - GREY[0]) / GREY[1]).expand(-1, 3, -1, -1)
        return functional.adaptive_avg_pool2d(self.encoder.maps(normal)[-1], CELLS).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits."""
        result: Tensor = self.head(self.features(images)).squeeze(1)
        return result


class ViewCheck:
    """The trained network on a device."""

    def __init__(self, path: Path, device: str):
        weights, config = checkpoints.load(path)
        if config.get("kind") != KIND:
            raise MedgroundError(f"{path}: not a view check")
        network = Network()
        checkpoints.fit(network, weights, path)
        self.network, self.device = network.eval().to(device), device

    def square(self, image: Pixels) -> Tensor:
        """Return a (H, W) image in [0, 1] as (S, S) input of the network."""
        return torch.from_numpy(letterboxed.of(image, SIZE).square)

    @torch.inference_mode()
    def are_frontal(self, squares: Sequence[Tensor]) -> list[bool]:
        """Return whether each image is one upright frontal chest X-ray."""
        images = torch.stack(list(squares))[:, None].to(self.device).float() / 255
        found: list[bool] = (self.network(images) >= 0).tolist()
        return found

    def is_frontal(self, image: Pixels) -> bool:
        """Return this for one (H, W) image in [0, 1]."""
        return self.are_frontal([self.square(image)])[0]


def load(device: str) -> ViewCheck:
    """Return the view check that is included in medground."""
    return ViewCheck(shipped.VIEW, device)
