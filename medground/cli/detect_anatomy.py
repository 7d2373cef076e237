"""medground detect-anatomy: films -> boxes of named regions."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from medground.cli import options

if TYPE_CHECKING:
    from medground.anatomy.detect import Detector


@click.command()
@click.argument("films", metavar="[LIST]", type=click.Path(exists=True, allow_dash=True), default="-")
@options.config
@options.images
@click.option(
    "--model",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="model.safetensors of train-detector.",
)
@click.option(
    "--detector",
    type=click.Choice(["region-query", "yolo"]),
    help="The kind of model to insist on; without it the checkpoint says.",
)
@click.option("--batch", type=click.IntRange(min=1), default=8, show_default=True, help="Films at a time.")
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Leave out regions that score less.",
)
@click.option(
    "--trust-pickle", is_flag=True, help="yolo: read --model although it may run its author's code."
)
@click.option("--resume", is_flag=True, help="Keep what -o FILE holds, or what a stopped run left of it.")
@options.device
@options.rejects
@options.output
def detect_anatomy(films: str, resume: bool, output: str, **chosen: Any) -> None:
    """Find the named regions of chest films.

    LIST is a folder, an image, a file with a path a line, or JSON lines with image_id and path. Writes an
    anatomy line for each image: one box at most for each region, in pixels of the original image. A film
    that is probably no frontal chest film gets no boxes, a warning, and "other" as its view.

    \b
        $ medground detect-anatomy films/ --model runs/detector/model.safetensors -o boxes.jsonl
        $ medground detect-anatomy list.jsonl --images films --model model.safetensors --resume -o boxes.jsonl
    """
    from medground import jsonl

    if not resume:
        with jsonl.create(output) as stream:
            _detect(films, stream, set(), **chosen)
    elif output == "-":
        raise click.UsageError("--resume needs -o FILE")
    else:
        with jsonl.go_on(output, ["image_id", "model"]) as (stream, held):
            _same_model(output, {model for _, model in held}, chosen["model"])
            _detect(films, stream, {image_id for image_id, _ in held}, **chosen)


def _same_model(output: str, models: set[str], model: Path) -> None:
    """Refuse to go on in a file that another model began."""
    from medground import checkpoints
    from medground.errors import MedgroundError

    if models - {checkpoints.hash_of(model)}:
        raise MedgroundError(f"{output}: holds boxes of another model; choose another file or delete it")


def _detect(
    films: str,
    stream: BinaryIO,
    held: set[str],
    images: Path,
    rejects: BinaryIO | None,
    batch: int,
    min_score: float,
    **how: Any,
) -> None:
    """Write the anatomy of the films whose ids are not held; raises when every one was rejected."""
    from medground import console, jsonl
    from medground.anatomy import detect, listing
    from medground.errors import MedgroundError
    from medground.records import Image

    bad_lines, rejected = jsonl.BadLines(rejects), 0

    def reject(record: Image, error: MedgroundError) -> None:
        nonlocal rejected
        rejected += 1
        bad_lines.take(jsonl.dumps(record), error)

    with closing(_load(**how)) as detector:
        listed = listing.open_list(films, images, bad_lines)
        records = (each for each in listed if each.image_id not in held)
        found = detect.detect_regions(records, images, detector, reject, batch, min_score)
        written = jsonl.write(stream, console.progress(found, "detect-anatomy", start=len(held)))
    if rejected and not written and not held:
        raise MedgroundError(f"{films}: every image was rejected")


def _load(model: Path, detector: str | None, device: str, trust_pickle: bool) -> "Detector":
    from medground.anatomy import detector as detectors

    return detectors.load(model, options.device_of(device), detector, trust_pickle)
