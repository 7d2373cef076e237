"""medground train-detector: images with region boxes -> a region detector."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from medground.cli import options, training
from medground.cli.command import FILES, MODEL, TRAINING, command, option

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
    type=click.Choice(["region-query", "transformers", "yolo"]),
    default="region-query",
    show_default=True,
    group=MODEL,
    help="Detector type; see above.",
)
@option(
    "--image-size",
    type=options.COUNT,
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

    Types: region-query, one learned query per region; transformers, RT-DETRv2 or D-FINE from the folder
    --init-from; yolo, ultralytics (AGPL-3.0): pip install medground[yolo].

    \b
        $ medground train-detector anatomy.jsonl --images images --val val.jsonl -o runs/detector
    """
    options.refuse_two_stdins(*(each for each in (records, val) if each))
    if chosen["steps"] and chosen["epochs"]:
        raise click.UsageError("give --steps or --epochs, not both")
    if detector != "yolo" and chosen["trust_pickle"]:
        raise click.UsageError("--trust-pickle requires --detector yolo")
    if detector == "yolo" and chosen["lr"]:
        raise click.UsageError("--lr has no effect on --detector yolo, which chooses its own: leave it out")
    if detector == "transformers" and not chosen["init_from"]:
        raise click.UsageError(
            "--detector transformers requires --init-from, a folder that transformers saved"
        )
    kinds = {"region-query": _region_query, "transformers": _transformers, "yolo": _yolo}
    if not kinds[detector](records, val, **chosen):
        raise click.exceptions.Exit(options.STOPPED)


def _region_query(records: BinaryIO, val: BinaryIO | None, folder: Path, **chosen: Any) -> bool:
    """Train the default detector; return False when stopped before the end."""
    from medground.anatomy import region_query as networks
    from medground.anatomy import regions
    from medground.training.detectors import region_query

    device = options.device_of(chosen["device"])
    config = networks.Config(names=tuple(regions.NAMES), size=chosen["image_size"] or networks.SIZE)
    learned, checked = _image_sets(records, val, config.size, chosen["images"], chosen["rejects"])
    how = region_query.Options(device=device, **_pace(chosen, len(learned)))
    return region_query.train(learned, checked, config, folder, how, chosen["overwrite"], chosen["init_from"])


def _transformers(records: BinaryIO, val: BinaryIO | None, folder: Path, **chosen: Any) -> bool:
    """Fine-tune a detector of transformers; return False when stopped before the end."""
    from medground.anatomy import detr as networks
    from medground.training.detectors import detr

    device, size = options.device_of(chosen["device"]), chosen["image_size"] or networks.SIZE
    learned, checked = _image_sets(records, val, size, chosen["images"], chosen["rejects"])
    how = detr.Options(
        start=str(chosen["init_from"]), size=size, device=device, **_pace(chosen, len(learned))
    )
    return detr.train(learned, checked, folder, how, chosen["overwrite"])


def _pace(chosen: dict[str, Any], images: int) -> dict[str, Any]:
    """Return steps, batch size, learning rate and seed as fields of `region_query.Options`."""
    steps = -(-chosen["epochs"] * images // chosen["batch_size"]) if chosen["epochs"] else chosen["steps"]
    given = {"steps": steps, "lr": chosen["lr"]}
    return {
        "batch_size": chosen["batch_size"],
        "seed": chosen["seed"],
        **{k: v for k, v in given.items() if v},
    }


def _yolo(records: BinaryIO, val: BinaryIO | None, folder: Path, **chosen: Any) -> bool:
    """Train the detector of ultralytics; return False when stopped before the end."""
    from medground.anatomy import yolo
    from medground.training.detectors import region_query

    device = options.device_of(chosen["device"])
    yolo.check(chosen["init_from"], chosen["trust_pickle"])
    size, batch = chosen["image_size"] or yolo.SIZE, chosen["batch_size"]
    learned, checked = _image_sets(records, val, size, chosen["images"], chosen["rejects"])
    epochs = chosen["epochs"] or -(-(chosen["steps"] or 0) * batch // len(learned)) or yolo.EPOCHS
    how = {
        "epochs": epochs,
        "batch": batch,
        "size": size,
        "seed": chosen["seed"],
        "start": chosen["init_from"],
    }
    return region_query.train_yolo(
        learned, checked, folder, yolo.Options(device=device, **how), chosen["overwrite"]
    )


def _image_sets(
    records: BinaryIO, val: BinaryIO | None, size: int, images: Path, rejects: BinaryIO | None
) -> "tuple[ImageSet, ImageSet | None]":
    """Return the training and validation images at the detector's size; raise if a subject is in both."""
    from medground import jsonl, leakage
    from medground.anatomy import regions
    from medground.anatomy.image_set import read_images
    from medground.errors import MedgroundError
    from medground.records import Anatomy

    bad_lines = jsonl.BadLines(rejects)

    def reject(anatomy: Anatomy, error: MedgroundError) -> None:
        bad_lines.take(jsonl.dumps(anatomy), error)

    parts = {"train": list(jsonl.read(records, Anatomy, bad_lines))}
    if val:
        parts["val"] = list(jsonl.read(val, Anatomy, bad_lines))
    for leak in leakage.between(parts):
        raise MedgroundError(f"{leak}: split by subject")

    def image_set(part: str, use: str) -> "ImageSet":
        return read_images(parts[part], images, regions.NAMES, size, reject, use)

    return image_set("train", "train on"), image_set("val", "measure on; is --val right?") if val else None
