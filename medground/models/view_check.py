"""The view check: is an image one upright frontal chest X-ray?

Laterals, sections of CT, figures of several panels, rotated images and other pictures are not.
EfficientNet-Lite0 encodes the image with frozen ImageNet weights, and a linear layer scores its coarse
feature map. `tools/train_view` trains that layer and writes the graph. Letters: B images, S side of the
square.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medground import shipped
from medground.errors import MedgroundError
from medground.images import Shown
from medground.models import graphs, letterboxed

log = logging.getLogger(__name__)
SIZE = 224
Square = NDArray[np.uint8]


@dataclass(frozen=True)
class ViewCheck:
    """The compiled graph: (B, 1, S, S) images in [0, 1] -> (B,) logits, positive for a frontal image."""

    graph: Any

    def square(self, image: Shown) -> Square:
        """Return an image of `images.load_shown` as (S, S) input of the check."""
        return letterboxed.of_shown(image, SIZE).square

    def are_frontal(self, squares: Sequence[Square]) -> list[bool]:
        """Return whether each image is one upright frontal chest X-ray."""
        images = np.stack(squares)[:, None].astype(np.float32) / 255
        found: list[bool] = (self.graph([images])[0] >= 0).tolist()
        return found

    def is_frontal(self, image: Shown) -> bool:
        """Return this for one image of `images.load_shown`."""
        return self.are_frontal([self.square(image)])[0]


def load(path: Path = shipped.VIEW) -> ViewCheck | None:
    """Return the view check that is included in medground; None with a warning if OpenVINO does not work."""
    try:
        return ViewCheck(graphs.compiled(graphs.openvino().Core(), path, SIZE))
    except (MedgroundError, RuntimeError) as problem:
        log.warning("the views of images are not checked: %s", problem)
        return None
