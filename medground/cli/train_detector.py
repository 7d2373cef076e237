"""medground train-detector: images with region boxes -> a region detector."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from medground import registry
from medground.cli import options, training
from medground.cli.command import FILES, MODEL, TRAINING, command, option
from medground.cli.named import Named

if TYPE_CHECKING:
    from medground.anatomy.image_set import ImageSet


@command()
@options.records
@options.config
@options.images
@option("--val", type=click.File("rb"), group=FILES, help="Validation region boxes, from other subjects.")
@options.run_folder
@option(
    "--detector",
    type=Named(registry.DETECTORS),
    default="region-query",
    show_default=True,
    group=MODEL,
    help="Detector type.",
)
@option(
    "--image-size",
    type=options.SIDE,
    old=["--size"],
    group=MODEL,
    help="Side of the input square in pixels  [default: 192; others: 640]",
)
@option(
    "--init-from",
    metavar="FOLDER|FILE",
    type=options.DETECTOR,
    old=["--start"],
    group=MODEL,
    help="Detector to start from, of the same type and size.",
)
@option(
    "--image-encoder",
    metavar="FOLDER|hub:NAME",
    type=options.ENCODER,
    group=MODEL,
    help="region-query: image encoder to start from: pretrain run, export --encoders, or pre-trained.",
)
@option(
    "--trust-pickle", is_flag=True, group=MODEL, help="Load --init-from of yolo although it can run code."
)
@option(
    "--steps", type=options.COUNT, group=TRAINING, help="Training steps  [default: 1200; transformers: 5000]"
)
@option("--epochs", type=options.COUNT, group=TRAINING, help="Passes over the images, instead of --steps.")
@options.batch_size
@option(
    "--lr",
    type=options.POSITIVE,
    old=["--rate"],
    group=TRAINING,
    help="Peak learning rate  [default: 0.0015; transformers: 0.0001]",
)
@option(
    "--encoder-lr",
    type=options.POSITIVE,
    group=TRAINING,
    help="Learning rate of --image-encoder  [default: --lr / 10]",
)
@options.device
@options.seed
@options.overwrite
@options.rejects
@training.may_be_stopped
def train_detector(records: BinaryIO, val: BinaryIO | None, detector: str, **chosen: Any) -> None:
    """Train a detector of anatomical regions.

    Reads anatomy records, as `medground convert` writes them, and loads their images into memory at the
    detector's size. The run folder holds config.toml, metrics.jsonl, model.safetensors, a figure of
    validation boxes and resume.safetensors. Run the same command again to continue. SIGTERM and SIGUSR1 save
    and exit with 75.

    With --image-encoder, the layers over its feature maps are new. The detector file holds the encoder, too,
    so later trainings start from it with --init-from.

    \b
        $ medground train-detector anatomy.jsonl --images images --val val.jsonl -o runs/detector
        $ medground train-detector anatomy.jsonl --images images --image-encoder runs/asg \\
          --image-size 384 -o runs/asg-detector
    """
    options.refuse_two_stdins(*(each for each in (records, val) if each))
    if chosen["steps"] and chosen["epochs"]:
        raise click.UsageError("give --steps or --epochs, not both")
    entry = registry.DETECTORS[detector]
    if chosen["trust_pickle"] and not entry.reads_pickle:
        pickled = registry.one_of(registry.DETECTORS.where(reads_pickle=True))
        raise click.UsageError(f"--trust-pickle requires --detector {pickled}")
    if chosen["lr"] and entry.chooses_lr:
        raise click.UsageError(
            f"--lr has no effect on --detector {detector}, which chooses its own: leave it out"
        )
    _refuse_encoder(entry, chosen)
    if entry.needs_start and not chosen["init_from"]:
        saved = f"a {entry.stored_as} that {detector} saved"
        raise click.UsageError(f"--detector {detector} requires --init-from, {saved}")
    if not _train(entry, records, val, **chosen):
        raise click.exceptions.Exit(options.STOPPED)


def _refuse_encoder(entry: registry.Detector, chosen: dict[str, Any]) -> None:
    """Raise UsageError if --image-encoder or --encoder-lr has no use."""
    if chosen["image_encoder"] and not entry.takes_encoder:
        takers = registry.one_of(registry.DETECTORS.where(takes_encoder=True))
        raise click.UsageError(f"--image-encoder requires --detector {takers}")
    if chosen["image_encoder"] and chosen["init_from"]:
        raise click.UsageError("--init-from holds an encoder already: give it or --image-encoder")
    if chosen["encoder_lr"] and not (
        chosen["image_encoder"] or (entry.takes_encoder and chosen["init_from"])
    ):
        raise click.UsageError("--encoder-lr requires --image-encoder")


def _train(
    entry: registry.Detector,
    records: BinaryIO,
    val: BinaryIO | None,
    folder: Path,
    images: Path,
    rejects: BinaryIO | None,
    **chosen: Any,
) -> bool:
    """Train a detector; return False when stopped before the end."""
    from medground.training.detectors.trainers import TrainerOptions

    chosen["device"] = options.device_of(chosen["device"])
    trained: Path | None = None
    if chosen["image_encoder"]:
        from medground.downstream import image_encoders

        chosen["image_encoder"] = encoder = image_encoders.load(chosen["image_encoder"], chosen["image_size"])
        trained = encoder.model
    train = registry.attribute(entry.trainer)
    done: bool = train(
        lambda size: _image_sets(records, val, size, images, rejects, trained),
        folder,
        TrainerOptions(**chosen),
    )
    return done


def _image_sets(
    records: BinaryIO,
    val: BinaryIO | None,
    size: int,
    images: Path,
    rejects: BinaryIO | None,
    trained: Path | None,
) -> "tuple[ImageSet, ImageSet | None]":
    """Return the training and validation images at the detector's size.

    trained: the model folder of --image-encoder. Raises MedgroundError if a validation subject is among the
    training subjects, or among those of that model.
    """
    from medground import boxes, jsonl, leakage
    from medground.anatomy import regions
    from medground.anatomy.image_set import read_images
    from medground.errors import MedgroundError
    from medground.records import Anatomy

    bad_lines = jsonl.BadLines(rejects)

    def reject(anatomy: Anatomy, error: MedgroundError) -> None:
        bad_lines.take(jsonl.dumps(anatomy), error)

    parts = {"train": list(jsonl.read(records, Anatomy, bad_lines, boxes.check_anatomy))}
    if val:
        parts["val"] = list(jsonl.read(val, Anatomy, bad_lines, boxes.check_anatomy))
    leakage.check(leakage.between(parts), False, "split the images by subject")
    if val and trained:
        leakage.check(leakage.with_model(parts, trained), False, "choose other images for --val")

    def image_set(part: str, use: str) -> "ImageSet":
        return read_images(parts[part], images, regions.NAMES, size, reject, use)

    return image_set("train", "train on"), image_set("val", "measure on; is --val right?") if val else None
