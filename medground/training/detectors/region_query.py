"""Training the region-query detector: images with region boxes -> RUN_DIR/model.safetensors.

The detector that is kept has the moving average of the weights: after a short training it is better than
the last weights.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medground import checkpoints, output_files, processors
from medground.anatomy import region_query, yolo
from medground.anatomy.augment import Views
from medground.anatomy.image_set import ImageSet
from medground.anatomy.region_query import Config, RegionQuery
from medground.errors import MedgroundError
from medground.models import encoders
from medground.training.detectors import common
from medground.training.run_dir import RunFolder
from medground.training.stop import StopRequest

log = logging.getLogger(__name__)

OF_ENCODER = (
    "names",
    "encoder",
    "equalized",
    "grey",
)  # not in the settings of a run: too long, or its hash is
MODEL, PICTURE = "model.safetensors", "validation.png"
WEIGHTS = {"corners": 12.0, "overlap": 2.0, "presence": 1.0}
STEPS = 1200
NEVER = -30.0  # presence logit of a region that is on no image
BETAS = (0.9, 0.98)
TOGETHER = 64  # images of a batch in validation


class Encoder(Protocol):
    """An image encoder to start from, as `downstream.image_encoders` loads it."""

    @property
    def name(self) -> str: ...
    @property
    def network(self) -> nn.Module: ...
    @property
    def equalized(self) -> bool: ...
    @property
    def grey(self) -> Sequence[float] | None: ...


@dataclass(frozen=True, kw_only=True)
class Options(common.Options):
    """The settings of a training of this detector."""

    steps: int = STEPS
    lr: float = 1.5e-3
    weight_decay: float = 0.05
    ema_decay: float | None = 0.99


class Learner(nn.Module):
    """The network; its forward returns the losses of a batch of views.

    start: a detector to start from. encoder: an image encoder whose weights the network starts with.
    """

    def __init__(self, config: Config, start: Path | None = None, encoder: nn.Module | None = None):
        super().__init__()
        self.network = RegionQuery(config)
        if encoder is not None:
            self.network.backbone.encoder.load_state_dict(encoder.state_dict())  # type: ignore[union-attr]
        if start:
            weights, header = checkpoints.load(start)
            region_query.take_use(header, str(start))
            if region_query.build_config(header, str(start)) != config:
                raise MedgroundError(f"{start}: a detector of another size, or of other regions")
            checkpoints.fit(self.network, weights, start)

    def forward(self, views: Views) -> dict[str, Tensor]:
        """Return the losses by name, unweighted."""
        device = views.images.device.type
        with torch.autocast(device, torch.bfloat16, enabled=half_is_fast(device)):
            boxes, logits = self.network(views.images)
        return region_query.loss_parts(boxes, logits, views.boxes, views.known, views.present)

    def weights(self, progress: float) -> dict[str, float]:
        """Return the weights of the losses; they do not change."""
        return WEIGHTS


def train(
    learned: ImageSet,
    checked: ImageSet | None,
    config: Config,
    folder: Path,
    options: Options,
    overwrite: bool = False,
    start: Path | None = None,
    encoder: Encoder | None = None,
) -> bool:
    """Train on the images and leave the detector in `folder`; return False when stopped after saving.

    The same call again continues a stopped run. `checked` are images to validate on. `overwrite` forgets a
    run with other settings. `start` is a detector of the same config to start from, `encoder` the image
    encoder of the config with its weights.
    """
    network_of = {name: each for name, each in asdict(config).items() if name not in OF_ENCODER}
    settings = {"network": network_of, "start": checkpoints.hash_of(start) if start else None}
    settings |= {"image_encoder": encoder.name} if encoder else {}

    def build() -> tuple[nn.Module, torch.optim.Optimizer, ImageSet]:
        learner = Learner(config, start, encoder.network if encoder else None)
        prepared = start_from_frequencies(learner.network, learned)
        optimizer = torch.optim.AdamW(
            _groups(learner.network, options),
            lr=options.lr,
            betas=BETAS,
            weight_decay=options.weight_decay,
            fused=True,
        )
        return learner, optimizer, prepared

    images = common.Images(training=learned, validation=checked)
    network = common.train(
        build, lambda each, some: predict(each, some)[0], images, folder, options, settings, overwrite
    )
    if network is None:
        return False
    _finish(network, checked or learned, folder)
    return True


def _groups(network: RegionQuery, options: Options) -> list[dict[str, Any]]:
    """Return the parameters, those of an image encoder with a learning rate of their own."""
    if network.config.encoder is None:
        return [{"params": [*network.parameters()]}]
    inner = [*network.backbone.encoder.parameters()]  # type: ignore[union-attr]
    known = {id(each) for each in inner}
    outer = [each for each in network.parameters() if id(each) not in known]
    return [{"params": outer}, {"params": inner, "lr": options.encoder_lr or options.lr / 10}]


def of_encoder(found: Encoder) -> dict[str, Any]:
    """Return the fields of `region_query.Config` for an image encoder."""
    grey = tuple(found.grey) if found.grey else None
    return {"encoder": encoders.to_plain(found.network), "equalized": found.equalized, "grey": grey}


def encoder_in(start: Path) -> dict[str, Any]:
    """Return the fields of `region_query.Config` for the image encoder of a detector; empty without one."""
    header = checkpoints.read_config(start)
    region_query.take_use(header, str(start))
    held = region_query.build_config(header, str(start))
    return {name: getattr(held, name) for name in OF_ENCODER[1:]}


def train_yolo(
    learned: ImageSet, checked: ImageSet | None, folder: Path, options: yolo.Options, overwrite: bool = False
) -> bool:
    """Train the detector of ultralytics, like `train`; a stopped run continues after its last whole epoch."""
    settings = {**vars(options), "images": learned.digest(), "detector": "yolo"}
    run = RunFolder(folder, {name: each for name, each in settings.items() if name != "device"}, overwrite)
    run.note_settings()
    with StopRequest() as stop:
        done = yolo.train(learned, checked, folder, options, lambda line: run.log(**line), lambda: bool(stop))
    if not done:
        log.warning("stopped on request: the last whole epoch is saved")
    return done


def start_from_frequencies(network: RegionQuery, images: ImageSet) -> ImageSet:
    """Set the initial presence of each query to the frequency of its region; return the images to train on.

    A region that is on no image is never found, and its presence is no target.
    """
    share = (images.present == 1).mean(axis=0)
    seen = np.clip(share, 0.01, 0.99)
    logits = np.where(share > 0, np.log(seen / (1 - seen)), NEVER)
    network.presence_prior.copy_(torch.from_numpy(logits))
    return replace(images, present=np.where(share > 0, images.present, -1).astype(np.int8))


def half_is_fast(device: str) -> bool:
    """Return whether bfloat16 is faster on this device: on GPUs, and on CPUs with AMX."""
    return not device.startswith("cpu") or bool(processors.has_amx())


@torch.no_grad()
def predict(network: RegionQuery, images: ImageSet) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (N, Q, 4) boxes in shares of the side and (N, Q) presence of all images."""
    device = next(network.parameters()).device
    network.eval()
    parts = []
    for first in range(0, len(images), TOGETHER):
        views = common.as_views(images, slice(first, first + TOGETHER))
        boxes, logits = network(views.images.to(device))
        parts.append((boxes.cpu().numpy(), logits.float().sigmoid().cpu().numpy()))
    return np.concatenate([boxes for boxes, _ in parts]), np.concatenate([score for _, score in parts])


def _finish(network: RegionQuery, images: ImageSet, folder: Path) -> None:
    """Write the detector, and a figure of its boxes on the first images."""
    from medground.anatomy.picture import draw_regions

    checkpoints.save(folder / MODEL, network.state_dict(), region_query.to_json(network.config))
    some = replace(images, **{name: each[:8] for name, each in vars(images).items()})
    with output_files.replacing(folder / PICTURE) as stream:
        draw_regions(some, *predict(network, some)).save(stream, format="PNG")
