"""A detector of the transformers library (RT-DETRv2, D-FINE, RF-DETR, ...) from a user's folder.

The folder comes from `save_pretrained`: config.json, whose `id2label` has our regions (or synonyms), and
*.safetensors. Nothing is downloaded, no code of the folder is run, and torchvision is not needed. Images are
letterboxed, so the model should be trained on letterboxed images. An optional preprocessor_config.json sets
their size, mean and standard deviation.
Letters: B images, S side, Q queries, C classes.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medground import checkpoints, config_limits, ops, strict_json
from medground.anatomy import masks
from medground.anatomy.detect import Found, best_of_each, doubt_of
from medground.compat_transformers import invalid_config, prepare_transformers
from medground.errors import BadRecord, MedgroundError
from medground.images import Pixels
from medground.models import building

KIND = "transformers"
SIZE = 640  # the training size of the RT-DETR family
BROKEN = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError)  # raised for an invalid folder
DOUBT = 0.1  # as `Detector.doubt`; these scores include the quality of the box


class TransformersDetector:
    """A detector of the transformers library on a device."""

    def __init__(self, folder: Path, device: str):
        self.network, self.device = load_network(folder).eval().to(device), device
        labels = self.network.config.id2label
        known = masks.model("").names
        self.names = [known.get(masks.plain(str(labels[n]))) for n in range(len(labels))]
        self.names = [None if name in masks.HELPERS else name for name in self.names]
        if not any(self.names):
            raise MedgroundError(f"{folder}: no label of its id2label is a region of medground")
        self.doubt = doubt_of(self.names, DOUBT)
        self.size, self.mean, self.spread = _preprocessing(folder)
        self.model = hash_of(folder)
        self._try(folder)

    def _try(self, folder: Path) -> None:
        """Run the network on a black square: not every network takes every size."""
        try:
            self.find(np.zeros((1, self.size, self.size), np.float32))
        except RuntimeError as error:
            way_out = "set another size in preprocessor_config.json"
            raise MedgroundError(f"{folder}: cannot process squares of {self.size}: {way_out}") from error

    @torch.inference_mode()
    def find(self, squares: Pixels) -> list[list[Found]]:
        """Return the best box of every region on each image, at any score."""
        images = torch.from_numpy(squares)[:, None].to(self.device).expand(-1, 3, -1, -1)
        pixels = (images - self.mean.to(images)) / self.spread.to(images)
        scores, corners = best_of_classes(self.network, pixels, len(self.names))
        corners *= self.size
        return [
            best_of_each(self.names, *each) for each in zip(corners.tolist(), scores.tolist(), strict=True)
        ]

    def close(self) -> None:
        """Do nothing: there are no resources to release."""


def best_of_classes(network: Any, pixels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return the (B, C) scores and (B, C, 4) corners, in shares of the side, of each class's best box."""
    answer = network(pixel_values=pixels)
    scores, best = _scores(answer.logits.float(), classes).max(dim=1)
    boxes = answer.pred_boxes.float().gather(1, best[..., None].expand(-1, -1, 4))
    return scores, ops.cxcywh_to_xyxy(boxes)


def _scores(logits: Tensor, classes: int) -> Tensor:
    """Return (B, Q, C): with one class more than names, the last is DETR's "no object" and the scores are a
    softmax."""
    return logits.softmax(-1)[..., :classes] if logits.shape[-1] == classes + 1 else logits.sigmoid()


def hash_of(folder: Path) -> str:
    """Return 12 hex digits over the configs and weights in the folder: the name of the model in records."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*config.json"), *folder.glob("*.safetensors")]):
        with open(path, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:12]


def load_network(folder: Path, **more: Any) -> Any:
    """Return the network; raise MedgroundError if it is not a detector or has only pickled weights.

    `more` goes to `from_pretrained`, for example new classes.
    """
    if not (folder / "config.json").is_file():
        raise MedgroundError(f"{folder}: no config.json; is it a folder saved by transformers?")
    if not any(folder.glob("*.safetensors")):
        raise MedgroundError(f"{folder}: no *.safetensors (pickled weights may run code and are not read)")
    _check_config(folder / "config.json")
    prepare_transformers()
    import transformers
    from safetensors import SafetensorError

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    try:
        with building.bounded(sorted(folder.glob("*.safetensors")), folder):
            network, info = transformers.AutoModelForObjectDetection.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                trust_remote_code=False,
                **more,
            )
    except (*BROKEN, SafetensorError, invalid_config()) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise MedgroundError(f"{folder}: not a detector that transformers can load: {reason}") from error
    if missing := sorted(info["missing_keys"]):
        raise MedgroundError(f"{folder}: weights of another architecture ({missing[0]} is missing)")
    return network


def _check_config(path: Path) -> None:
    """Raise MedgroundError for a config that needs code from its folder, or that has keys that load code."""
    try:
        config = strict_json.config(path)
    except BadRecord as bad:
        raise MedgroundError(f"{path}: {bad.problem}") from None
    if isinstance(config, dict) and config.get("auto_map"):
        raise MedgroundError(f"{path}: the model needs code from its folder (auto_map), which is not run")
    checkpoints.refuse_loading_keys(config, path)
    config_limits.check(config, path)


def _preprocessing(folder: Path) -> tuple[int, Tensor, Tensor]:
    """Return (side of the square, (3, 1, 1) mean and (3, 1, 1) standard deviation of its values)."""
    path = folder / "preprocessor_config.json"
    try:
        said = strict_json.config(path) if path.is_file() else {}
        size = said.get("size") or {}
        size = {"height": size, "width": size} if isinstance(size, int) else size
        sides = [
            int(size[key]) for key in ("height", "width", "shortest_edge", "longest_edge") if key in size
        ]
        normal = said.get("do_normalize", False)
        mean = torch.tensor(said["image_mean"] if normal else [0.0] * 3)[:, None, None]
        spread = torch.tensor(said["image_std"] if normal else [1.0] * 3)[:, None, None]
    except (BadRecord, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MedgroundError(f"{path}: not a preprocessor config ({type(error).__name__})") from error
    side = max(sides, default=SIZE)
    config_limits.check({"size": side}, path)
    return side, mean, spread
