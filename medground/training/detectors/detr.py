"""Fine-tuning a detector of the transformers library on films with region boxes.

It starts from a folder that `save_pretrained` left, say RT-DETRv2 with COCO's weights; its classes become our
regions, and its own loss (Hungarian matching) is what is learned by. The views of step n follow from the seed
and n, as in `training.detector`. RUN_DIR/model is again such a folder: detect-anatomy takes it for --model.
"""

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medground import boxes as geometry
from medground import ops
from medground.anatomy import detr
from medground.anatomy.augment import Views
from medground.anatomy.image_set import ImageSet
from medground.anatomy.regions import NAMES
from medground.errors import MedgroundError
from medground.training.detectors import region_query
from medground.training.run_dir import RunFolder, State
from medground.training.stop import StopRequest

log = logging.getLogger(__name__)
STEPS, RATE, WEIGHT_DECAY, CLIP_NORM = 5000, 1e-4, 1e-4, 0.1  # as RT-DETR is fine-tuned
LOG_EVERY, MODEL = 20, "model"


@dataclass(frozen=True, kw_only=True)
class Options(region_query.Options):
    """How it is trained; `start` is the folder to begin with, `size` the side of its squares."""

    start: str
    size: int = detr.SIZE
    steps: int = STEPS
    rate: float = RATE


def train(
    learned: ImageSet, checked: ImageSet | None, folder: Path, options: Options, overwrite: bool = False
) -> bool:
    """Train on the films and leave FOLDER/model; True when done, False when stopped after saving.

    The same call again goes on where a stopped one ended. `checked` are films to measure on.
    """
    settings = {name: each for name, each in vars(options).items() if name not in ("device", "ranges")}
    begun = {"detector": detr.KIND, "begun": detr.hash_of(Path(options.start)), "films": learned.digest()}
    begun |= {"validation": checked.digest()} if checked else {}
    run = RunFolder(folder, settings | begun, overwrite)
    with StopRequest() as stop, torch.random.fork_rng():
        torch.manual_seed(options.seed)  # for the heads of the new classes
        network = load(options).to(options.device)
        done = _steps(network, learned, run, options, stop)
    if done < options.steps:
        log.warning("asked to stop: saved step %d of %d", done, options.steps)
        return False
    _save(network, folder / MODEL, options)
    if checked:
        found = detr.TransformersDetector(folder / MODEL, options.device)
        run.log(step=done, validation_miou=mean_iou(found, checked))
    return True


def load(options: Options) -> Any:
    """The network of the folder to begin with, its classes our regions."""
    return detr.load_network(
        Path(options.start), id2label=dict(enumerate(NAMES)), ignore_mismatched_sizes=True
    )


def _steps(network: Any, films: ImageSet, run: RunFolder, options: Options, stop: StopRequest) -> int:
    """Step until the end or until asked to stop; the number of steps done, saved."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.rate, weight_decay=WEIGHT_DECAY)
    first = run.restore(network, optimizer).step
    network.train()
    for step in range(first, options.steps):
        loss = _step(network, optimizer, films, step, options)
        if (step + 1) % LOG_EVERY == 0 or step + 1 == options.steps:
            run.log(step=step + 1, loss=loss)
        asked = bool(stop)  # read once: a signal between two looks would end the run without a save
        if asked or (step + 1) % options.save_every == 0:
            run.save(network, optimizer, State(step=step + 1))
        if asked:
            return step + 1
    return options.steps


def _step(
    network: Any, optimizer: torch.optim.Optimizer, films: ImageSet, step: int, options: Options
) -> float:
    for group in optimizer.param_groups:
        group["lr"] = options.rate_at(step)
    torch.manual_seed(options.seed * 1_000_003 + step)  # for the network's own noise
    views = region_query.batch_at(films, step, options)
    pictures = views.images.to(options.device).expand(-1, 3, -1, -1)
    loss: Tensor = network(pixel_values=pictures, labels=labels(views, options.device)).loss
    if not loss.isfinite():
        raise MedgroundError(f"step {step + 1}: the loss became {loss.item()}; the last checkpoint stands")
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
    optimizer.step()
    return float(loss.detach())


def labels(views: Views, device: str) -> list[dict[str, Tensor]]:
    """For each film its regions as these networks learn them: class numbers, centres and sizes in shares."""
    found = []
    for boxes, present in zip(views.boxes, views.present, strict=True):
        there = torch.nonzero(present > 0)[:, 0]
        sized = ops.xyxy_to_cxcywh(boxes[there])
        found.append({"class_labels": there.to(device), "boxes": sized.clamp(0, 1).to(device)})
    return found


def _save(network: Any, folder: Path, options: Options) -> None:
    """The folder as transformers would leave it, and how films have to come; it appears when it is whole."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    network.save_pretrained(partial)
    said = {"size": {"height": options.size, "width": options.size}, "do_normalize": False}
    (partial / "preprocessor_config.json").write_text(json.dumps(said, indent=1) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def mean_iou(found: detr.TransformersDetector, films: ImageSet) -> float:
    """Mean overlap of found and true boxes over all regions of all films that have one; 0 where none has."""
    pairs = []
    for row, square in enumerate(films.squares):
        (regions,) = found.find(square[None].astype(np.float32) / 255)
        box_of = {each.name: each.box for each in regions}
        there = np.flatnonzero(films.present[row] == 1)
        pairs += [(box_of[NAMES[n]], films.boxes[row, n] * len(square)) for n in there]
    if not pairs:
        return 0.0
    boxes, true = (np.array(each, dtype=float) for each in zip(*pairs, strict=True))
    return float(geometry.paired_iou(boxes, true).mean())
