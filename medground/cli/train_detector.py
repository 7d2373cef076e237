"""medground train-detector: films with region boxes -> a detector of regions."""

from pathlib import Path
from typing import Any, BinaryIO

import click

from medground.cli import options

STOPPED = 75  # asked to stop after saving: sysexits' EX_TEMPFAIL, on which batch scripts requeue
COUNT = click.IntRange(min=1)


@click.command()
@options.records
@options.config
@options.images
@click.option("--val", type=click.File("rb"), help="Anatomy to measure on, from other patients.")
@click.option(
    "-o",
    "--output",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Run folder; an interrupted run in it goes on.",
)
@click.option(
    "--detector",
    type=click.Choice(["region-query", "yolo"]),
    default="region-query",
    show_default=True,
    help="yolo is ultralytics' (AGPL-3.0): pip install medground[yolo].",
)
@click.option("--size", type=COUNT, help="Side of the square it looks at  [default: 192; yolo: 640]")
@click.option("--steps", type=COUNT, help="Steps of training  [default: 1200]")
@click.option("--epochs", type=COUNT, help="Times through all films, instead of --steps.")
@click.option("--batch", type=COUNT, default=16, show_default=True, help="Films in a step.")
@options.device
@options.seed
@options.rejects
def train_detector(records: BinaryIO, val: BinaryIO | None, **chosen: Any) -> None:
    """Train a detector of anatomical regions.

    Reads anatomy records, as `medground convert` writes them, and holds their films in memory at the
    detector's size. The run folder holds config.toml, metrics.jsonl, model.safetensors, a picture of
    validation boxes, and resume.safetensors: the same command again goes on from there. SIGTERM and SIGUSR1
    save and exit with 75.

    \b
        $ medground train-detector anatomy.jsonl --images films --val val.jsonl -o runs/detector
    """
    if chosen["steps"] and chosen["epochs"]:
        raise click.UsageError("give --steps or --epochs, not both")
    train = _yolo if chosen.pop("detector") == "yolo" else _region_query
    if not train(records, val, **chosen):
        raise click.exceptions.Exit(STOPPED)


def _region_query(
    records: BinaryIO,
    val: BinaryIO | None,
    folder: Path,
    size: int | None,
    steps: int | None,
    epochs: int | None,
    images: Path,
    rejects: BinaryIO | None,
    **chosen: Any,
) -> bool:
    """Train the default detector; False when stopped before the end."""
    from medground import jsonl
    from medground.anatomy import films, region_query, regions
    from medground.records import Anatomy
    from medground.training import detector

    chosen["device"] = options.device_of(chosen["device"])
    config = region_query.Config(names=tuple(regions.NAMES), size=size or 192)
    bad_lines = jsonl.BadLines(rejects)

    def read(stream: BinaryIO) -> films.Films:
        return films.read_films(
            jsonl.read(stream, Anatomy, bad_lines),
            images,
            config.names,
            config.size,
            lambda anatomy, error: bad_lines.take(jsonl.dumps(anatomy), error),
        )

    learned, checked = read(records), read(val) if val else None
    if epochs:
        steps = -(-epochs * len(learned) // chosen["batch"])
    return detector.train(learned, checked, config, folder, detector.Options(steps=steps or 1200, **chosen))


def _yolo(records: BinaryIO, val: BinaryIO | None, **chosen: Any) -> bool:
    raise NotImplementedError
