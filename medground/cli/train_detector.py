"""medground train-detector: films with region boxes -> a detector of regions."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from medground.cli import options, training

if TYPE_CHECKING:
    from medground.anatomy.image_set import ImageSet


@click.command()
@options.records
@options.config
@options.images
@click.option("--val", type=click.File("rb"), help="Anatomy to measure on, from other patients.")
@options.run_folder
@click.option(
    "--detector",
    type=click.Choice(["region-query", "transformers", "yolo"]),
    default="region-query",
    show_default=True,
    help="transformers: RT-DETRv2 or D-FINE, from the folder --start; yolo is ultralytics' (AGPL-3.0): "
    "pip install medground[yolo].",
)
@click.option(
    "--size", type=options.COUNT, help="Side of the square it looks at  [default: 192; others: 640]"
)
@click.option("--steps", type=options.COUNT, help="Steps of training  [default: 1200; transformers: 5000]")
@click.option("--epochs", type=options.COUNT, help="Times through all films, instead of --steps.")
@click.option("--batch", type=options.COUNT, default=8, show_default=True, help="Images per step.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Highest learning rate  [default: 0.0015; transformers: 0.0001]",
)
@click.option(
    "--start",
    type=click.Path(exists=True, path_type=Path),
    help="Weights to begin with, of a detector of the same kind and size; transformers: a folder.",
)
@click.option(
    "--trust-pickle", is_flag=True, help="yolo: read --start although it may run its author's code."
)
@options.device
@options.seed
@options.anew
@options.rejects
@training.may_be_stopped
def train_detector(records: BinaryIO, val: BinaryIO | None, detector: str, **chosen: Any) -> None:
    """Train a detector of anatomical regions.

    Reads anatomy records, as `medground convert` writes them, and holds their films in memory at the
    detector's size. The run folder holds config.toml, metrics.jsonl, model.safetensors, a picture of
    validation boxes, and resume.safetensors: the same command again goes on from there. SIGTERM and SIGUSR1
    save and exit with 75.

    \b
        $ medground train-detector anatomy.jsonl --images films --val val.jsonl -o runs/detector
    """
    options.refuse_two_stdins(*(each for each in (records, val) if each))
    if chosen["steps"] and chosen["epochs"]:
        raise click.UsageError("give --steps or --epochs, not both")
    if detector != "yolo" and chosen["trust_pickle"]:
        raise click.UsageError("--trust-pickle needs --detector yolo")
    if detector == "yolo" and chosen["rate"]:
        raise click.UsageError("--rate is not yolo's: it chooses its own")
    if detector == "transformers" and not chosen["start"]:
        raise click.UsageError("--detector transformers needs --start, a folder that transformers saved")
    kinds = {"region-query": _region_query, "transformers": _transformers, "yolo": _yolo}
    if not kinds[detector](records, val, **chosen):
        raise click.exceptions.Exit(options.STOPPED)


def _region_query(records: BinaryIO, val: BinaryIO | None, folder: Path, **chosen: Any) -> bool:
    """Train the default detector; False when stopped before the end."""
    from medground.anatomy import region_query as networks
    from medground.anatomy import regions
    from medground.training.detectors import region_query

    device = options.device_of(chosen["device"])
    config = networks.Config(names=tuple(regions.NAMES), size=chosen["size"] or networks.SIZE)
    learned, checked = _films(records, val, config.size, chosen["images"], chosen["rejects"])
    how = region_query.Options(device=device, **_pace(chosen, len(learned)))
    return region_query.train(learned, checked, config, folder, how, chosen["anew"], chosen["start"])


def _transformers(records: BinaryIO, val: BinaryIO | None, folder: Path, **chosen: Any) -> bool:
    """Fine-tune a detector of transformers'; False when stopped before the end."""
    from medground.anatomy import detr as networks
    from medground.training.detectors import detr

    device, size = options.device_of(chosen["device"]), chosen["size"] or networks.SIZE
    learned, checked = _films(records, val, size, chosen["images"], chosen["rejects"])
    how = detr.Options(start=str(chosen["start"]), size=size, device=device, **_pace(chosen, len(learned)))
    return detr.train(learned, checked, folder, how, chosen["anew"])


def _pace(chosen: dict[str, Any], films: int) -> dict[str, Any]:
    """What was chosen of steps, batch, rate and seed, by the names of `detector.Options`."""
    steps = -(-chosen["epochs"] * films // chosen["batch"]) if chosen["epochs"] else chosen["steps"]
    given = {"steps": steps, "rate": chosen["rate"]}
    return {"batch": chosen["batch"], "seed": chosen["seed"], **{k: v for k, v in given.items() if v}}


def _yolo(records: BinaryIO, val: BinaryIO | None, folder: Path, **chosen: Any) -> bool:
    """Train ultralytics' detector; False when stopped before the end."""
    from medground.anatomy import yolo
    from medground.training.detectors import region_query

    device = options.device_of(chosen["device"])
    yolo.check(chosen["start"], chosen["trust_pickle"])
    size, batch = chosen["size"] or yolo.SIZE, chosen["batch"]
    learned, checked = _films(records, val, size, chosen["images"], chosen["rejects"])
    epochs = chosen["epochs"] or -(-(chosen["steps"] or 0) * batch // len(learned)) or yolo.EPOCHS
    how = {"epochs": epochs, "batch": batch, "size": size, "seed": chosen["seed"], "start": chosen["start"]}
    return region_query.train_yolo(
        learned, checked, folder, yolo.Options(device=device, **how), chosen["anew"]
    )


def _films(
    records: BinaryIO, val: BinaryIO | None, size: int, images: Path, rejects: BinaryIO | None
) -> "tuple[ImageSet, ImageSet | None]":
    """The films to learn from and those to measure on, at the detector's size; no patient is in both."""
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
    leakage.check(leakage.between(parts), False, "split the images by subject")

    def films(part: str, use: str) -> "ImageSet":
        return read_images(parts[part], images, regions.NAMES, size, reject, use)

    return films("train", "train on"), films("val", "measure on; is --val right?") if val else None
