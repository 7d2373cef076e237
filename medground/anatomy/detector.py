"""Checkpoint -> detector of the kind that it holds."""

from pathlib import Path

import torch
from torch.nn import functional

from medground import checkpoints, registry
from medground.anatomy import detr, region_query
from medground.anatomy.detect import Detector, Found
from medground.anatomy.region_query import RegionQuery
from medground.errors import MedgroundError
from medground.images import Pixels
from medground.models import building


def load(path: Path, device: str, kind: str | None = None, trust_pickle: bool = False) -> Detector:
    """Return the detector of a checkpoint; raise MedgroundError if it is not one, or not of the wanted kind.

    A pickle of ultralytics' is read only if `kind` is yolo and `trust_pickle` is true.
    """
    if path.is_dir():
        return _of_folder(path, device, kind)
    wanted = registry.DETECTORS[kind] if kind else None
    if wanted and wanted.reads_pickle and trust_pickle and checkpoints.is_pickle(path):
        return wanted.load()(path, device, trust_pickle)  # type: ignore[no-any-return]
    found = checkpoints.read_config(path).get("kind")
    if kind and found != kind:
        raise MedgroundError(f"{path}: holds {_article(found)}, not a {kind} detector")
    entry = registry.DETECTORS.get(found) if isinstance(found, str) else None
    if entry is None or entry.stored_as != "file":
        raise MedgroundError(f"{path}: holds {_article(found)}, not a detector of regions")
    return entry.load()(path, device)  # type: ignore[no-any-return]


def _of_folder(path: Path, device: str, kind: str | None) -> Detector:
    """Return the detector in a folder, saved by transformers if no other kind is named."""
    entry = registry.DETECTORS[kind or detr.KIND]
    if entry.stored_as != "folder":
        raise MedgroundError(f"{path}: a folder; a {kind} detector is one file, model.safetensors")
    return entry.load()(path, device)  # type: ignore[no-any-return]


def _article(kind: object) -> str:
    return f"a {kind} model" if isinstance(kind, str) else "another model"


class RegionQueryDetector:
    """A trained region-query network on a device, with the `Use` in its header."""

    def __init__(self, path: Path, device: str):
        weights, header = checkpoints.load(path)
        self.use = region_query.take_use(header, str(path))
        config = region_query.build_config(header, str(path))
        self.size, self.model = config.size - 2 * self.use.inset, checkpoints.hash_of(path)
        self.names, self.device, self.doubt = config.names, device, self.use.doubt
        network = building.built(lambda: RegionQuery(config), [path], path)
        checkpoints.fit(network, weights, path)
        self.network = network.eval().to(device)
        edges = [self.use.edges.get(name, [0.0] * 4) for name in config.names]
        self.edges = torch.tensor(edges, device=device)

    @torch.inference_mode()
    def find(self, squares: Pixels) -> list[list[Found]]:
        """Return every region of each image, likely or not; the score is the region's presence."""
        inset = self.use.inset
        images = functional.pad(torch.from_numpy(squares)[:, None].to(self.device), [inset] * 4)
        boxes, logits = self.network(images)
        size = (boxes[..., 2:] - boxes[..., :2]).repeat(1, 1, 2)
        pixels = (boxes + self.edges * size) * images.shape[-1] - inset
        rows = zip(pixels.cpu().tolist(), logits.sigmoid().cpu().tolist(), strict=True)
        return [self._found(*each) for each in rows]

    def _found(self, boxes: list[list[float]], scores: list[float]) -> list[Found]:
        rows = zip(self.names, boxes, scores, strict=True)
        return [Found(name, (box[0], box[1], box[2], box[3]), score) for name, box, score in rows]

    def close(self) -> None:
        """Do nothing: there are no resources to release."""
