"""medground calibrate: phrases with known boxes and a model -> scores that mean frequencies."""

from pathlib import Path
from typing import Any, BinaryIO

import click

from medground.cli import options


@click.command()
@options.records
@click.option(
    "--model",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Model folder; calibration.json is written into it.",
)
@click.option("--split", metavar="NAME", help="Use only this split of FILE.")
@click.option(
    "--orientation",
    is_flag=True,
    help="Also learn to tell mirrored films, from these (which must hang right): ground then turns them.",
)
@options.images
@options.device
@options.config
@options.rejects
@options.output
def calibrate(
    records: BinaryIO, model: Path, split: str | None, orientation: bool, images: Path, device: str,
    rejects: BinaryIO | None, output: str
) -> None:  # fmt: skip
    """Teach a model how sure it may be, on phrases that it has not been trained on.

    Reads phrases with boxes, [] where there is nothing to show, and writes calibration.json into the model's
    folder. From then on ground's `present` and scores are frequencies (a score: how often such a box reaches
    IoU .5), and with --coverage its boxes are widened to keep a promise. With --orientation the folder gets
    orientation.safetensors too: ground then encodes each film and its mirror image, turns a film that is
    mirrored with odds of 20 to 1, and says `mirrored` in its answers. Prints one line of figures.

    \b
        $ medground calibrate held_out.jsonl --model runs/finetuned --images films
    """
    import json

    from medground import console, jsonl, leakage
    from medground.grounding import calibration, fitting
    from medground.models import grounder
    from medground.records import Phrase

    bad_lines = jsonl.BadLines(rejects)
    phrases = [p for p in jsonl.read(records, Phrase, bad_lines) if split is None or p.split == split]
    leaks = leakage.with_model({records.name: phrases}, model)
    leakage.check(leaks, False, "calibrate on other phrases (--split val)")
    network = grounder.load(model, options.device_of(device))
    known = console.progress(phrases, "phrases", len(phrases))
    found = fitting.calibrate(known, network, images, bad_lines.take_record)
    calibration.save(model, found)
    figures = {"model": found.model} | found.figures
    if orientation:
        figures["orientation"] = _learn_orientation(phrases, network, images, model)
    with jsonl.create(output) as stream:
        stream.write(json.dumps(figures).encode() + b"\n")


def _learn_orientation(phrases: list[Any], network: Any, images: Path, folder: Path) -> dict[str, Any]:
    """Write the orientation into the model's folder; what comes back says how well it tells."""
    from medground import console
    from medground.grounding import flip
    from medground.models import letterboxed

    paths = list(dict.fromkeys(phrase.path for phrase in phrases))
    films = (letterboxed.read(images / path, network.config.image_size) for path in paths)
    found, figures = flip.fit(console.progress(films, "films", len(paths)), network)
    flip.save(folder, found)
    return figures
