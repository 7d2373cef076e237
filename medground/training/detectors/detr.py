"""Fine-tuning a detector of the transformers library on images with region boxes.

It starts from a folder that `save_pretrained` left, for example RT-DETRv2 with COCO's weights. Its classes
become our regions; the loss is its own (Hungarian matching). RUN_DIR/model is such a folder again:
detect-anatomy takes it as --model.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medground import ops
from medground.anatomy import detr
from medground.anatomy.augment import Views
from medground.anatomy.image_set import ImageSet
from medground.anatomy.regions import NAMES
from medground.models import encoders
from medground.training.detectors import common

MODEL = "model"


@dataclass(frozen=True, kw_only=True)
class Options(common.Options):
    """The settings of a fine-tuning; `start` is the folder to start from, `size` the side of the squares.

    The defaults are those with which RT-DETR is fine-tuned.
    """

    start: str
    size: int = detr.SIZE
    steps: int = 5000
    lr: float = 1e-4
    max_grad_norm: float = 0.1


class Learner(nn.Module):
    """A network of transformers; its forward returns the network's own loss for a batch of views."""

    def __init__(self, network: Any):
        super().__init__()
        self.network = network

    def forward(self, views: Views) -> dict[str, Tensor]:
        """Return the loss, by the name "detection"."""
        images = views.images.expand(-1, 3, -1, -1)
        return {"detection": self.network(pixel_values=images, labels=labels(views)).loss}

    def weights(self, progress: float) -> dict[str, float]:
        """Return the weight of the loss."""
        return {"detection": 1.0}


def train(
    learned: ImageSet, checked: ImageSet | None, folder: Path, options: Options, overwrite: bool = False
) -> bool:
    """Train on the images and leave FOLDER/model; return True when done, False when stopped after saving.

    The same call again continues a stopped run. `checked` are images to validate on. `overwrite` forgets a
    run with other settings.
    """

    def build() -> tuple[nn.Module, torch.optim.Optimizer, ImageSet]:
        learner = Learner(load(options))
        optimizer = torch.optim.AdamW(
            learner.parameters(), options.lr, weight_decay=options.weight_decay, fused=True
        )
        return learner, optimizer, learned

    settings = {"detector": detr.KIND, "start_hash": detr.hash_of(Path(options.start))}
    images = common.Images(training=learned, validation=checked)
    network = common.train(build, predict, images, folder, options, settings, overwrite)
    if network is None:
        return False
    _save(network, folder / MODEL, options)
    return True


def load(options: Options) -> Any:
    """Return the network of the folder to start from, with our regions as its classes."""
    return detr.load_network(
        Path(options.start), id2label=dict(enumerate(NAMES)), ignore_mismatched_sizes=True
    )


def labels(views: Views) -> list[dict[str, Tensor]]:
    """Return the targets of each image: class numbers, and boxes as cxcywh in shares of the side."""
    found = []
    for boxes, present in zip(views.boxes, views.present, strict=True):
        there = torch.nonzero(present > 0)[:, 0]
        sized = ops.xyxy_to_cxcywh(boxes[there])
        found.append({"class_labels": there, "boxes": sized.clamp(0, 1)})
    return found


@torch.inference_mode()
def predict(network: Any, images: ImageSet) -> NDArray[np.float32]:
    """Return (N, Q, 4): the best box of each region on each image, in shares of the side."""
    network.eval()
    device, found = next(network.parameters()).device, []
    for row in range(len(images)):
        views = common.as_views(images, slice(row, row + 1))
        _, boxes = detr.best_of_classes(network, views.images.to(device).expand(-1, 3, -1, -1), len(NAMES))
        found.append(boxes.cpu().numpy())
    return np.concatenate(found)


def _save(network: Any, folder: Path, options: Options) -> None:
    """Write the folder as transformers does, with the size of its images; it appears when it is complete."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    encoders.save_pretrained(network, partial)
    preprocessing = {"size": {"height": options.size, "width": options.size}, "do_normalize": False}
    (partial / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=1) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
