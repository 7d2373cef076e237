"""The view check: is an image one upright frontal chest X-ray?

Laterals, sections of CT, figures of several panels, rotated images and other pictures are not.
EfficientNet-Lite0 encodes the image with frozen ImageNet weights, and a linear layer scores its coarse
feature map. `tools/train_view` trains that layer and writes the graph. Letters: B images, S side of the
square.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from medground import shipped
from medground.errors import MedgroundError
from medground.model_dir import ModelDir
from medground.models import graphs

if TYPE_CHECKING:  # imported while graphs are compiled
    from medground.images import Shown
    from medground.models.letterboxed import LetterboxedImage

log = logging.getLogger(__name__)
SIZE = 224
LONGEST = 1.75  # a longer image, in shares of its short side, is a figure of several panels


@dataclass(frozen=True)
class ViewCheck:
    """The compiled graph: (B, 1, S, S) images in [0, 1] -> (B,) logits, positive for a frontal image."""

    graph: Any

    def square(self, image: "Shown") -> "LetterboxedImage":
        """Return an image of `images.load_shown` as input of the check."""
        from medground.models import letterboxed

        return letterboxed.of_shown(image, SIZE)

    def are_frontal(self, squares: Sequence["LetterboxedImage"]) -> list[bool]:
        """Return whether each image is one upright frontal chest X-ray."""
        images = np.stack([each.square for each in squares])[:, None].astype(np.float32) / 255
        sides = [(each.letterbox.width, each.letterbox.height) for each in squares]
        logits = self.graph([images])[0].tolist()
        return [
            logit >= 0 and max(side) <= LONGEST * min(side) for logit, side in zip(logits, sides, strict=True)
        ]

    def is_frontal(self, image: "Shown") -> bool:
        """Return this for one image of `images.load_shown`."""
        return self.are_frontal([self.square(image)])[0]


def load() -> ViewCheck | None:
    """Return the view check that is included in medground; None with a warning if OpenVINO does not work.

    Its graph takes the image encoder's weights from the example model.
    """
    return start()()


def start() -> Callable[[], ViewCheck | None]:
    """Begin to load the view check in a thread; return the function that waits for it and returns it."""
    pool = ThreadPoolExecutor(1)
    try:
        source = graphs.read(shipped.VIEW, ModelDir(shipped.GROUNDER).weights)
        compiled = pool.submit(source.compiled, graphs.openvino().Core(), SIZE)
    except (MedgroundError, RuntimeError) as problem:
        return partial(_unchecked, problem)
    finally:
        pool.shutdown(wait=False)

    def found() -> ViewCheck | None:
        try:
            return ViewCheck(compiled.result())
        except RuntimeError as problem:
            _unchecked(problem)
            return None

    return found


def _unchecked(problem: Exception) -> None:
    log.warning("the views of images are not checked: %s", problem)
