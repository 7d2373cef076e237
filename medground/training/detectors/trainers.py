"""The trainers of the detectors in `registry.DETECTORS`, all called in the same way.

A trainer gets a function that reads the images at a given size, the run folder and `TrainerOptions`. It
returns True when done, False when stopped after saving.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medground.anatomy import detr as detr_networks
from medground.anatomy import region_query as region_query_networks
from medground.anatomy import regions, yolo
from medground.anatomy.image_set import ImageSet
from medground.training.detectors import detr, region_query

ReadImages = Callable[[int], tuple[ImageSet, ImageSet | None]]
"""Returns the training and validation images, as squares of this many pixels a side."""


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """The options of train-detector; None means the trainer's own default."""

    device: str
    seed: int
    batch_size: int
    image_size: int | None = None
    steps: int | None = None
    epochs: int | None = None
    lr: float | None = None
    encoder_lr: float | None = None
    init_from: Path | None = None
    image_encoder: region_query.Encoder | None = None
    trust_pickle: bool = False
    overwrite: bool = False

    def pace(self, images: int) -> dict[str, Any]:
        """Return batch size, seed, steps and learning rate as fields of `region_query.Options`."""
        steps = -(-self.epochs * images // self.batch_size) if self.epochs else self.steps
        given = {"steps": steps, "lr": self.lr, "encoder_lr": self.encoder_lr}
        always = {"batch_size": self.batch_size, "seed": self.seed, "device": self.device}
        return always | {name: value for name, value in given.items() if value}


def train_region_query(read: ReadImages, folder: Path, options: TrainerOptions) -> bool:
    """Train the detector with one query per region."""
    size = options.image_size or region_query_networks.SIZE
    start, encoder = options.init_from, options.image_encoder
    fields = region_query.of_encoder(encoder) if encoder else region_query.encoder_in(start) if start else {}
    config = region_query_networks.Config(names=tuple(regions.NAMES), size=size, **fields)
    train, val = read(config.size)
    how = region_query.Options(**options.pace(len(train)))
    return region_query.train(train, val, config, folder, how, options.overwrite, start, encoder)


def train_transformers(read: ReadImages, folder: Path, options: TrainerOptions) -> bool:
    """Fine-tune a detector of transformers."""
    size = options.image_size or detr_networks.SIZE
    train, val = read(size)
    how = detr.Options(start=str(options.init_from), size=size, **options.pace(len(train)))
    return detr.train(train, val, folder, how, options.overwrite)


def train_yolo(read: ReadImages, folder: Path, options: TrainerOptions) -> bool:
    """Train the detector of ultralytics."""
    start = options.init_from
    yolo.check(start, options.trust_pickle)
    size = options.image_size or yolo.SIZE
    train, val = read(size)
    steps, batch = options.steps or 0, options.batch_size
    epochs = options.epochs or -(-steps * batch // len(train)) or yolo.EPOCHS
    how = yolo.Options(
        device=options.device, epochs=epochs, batch=batch, size=size, seed=options.seed, start=start
    )
    return region_query.train_yolo(train, val, folder, how, options.overwrite)
