"""medground calibrate: phrases with known boxes and a model -> scores that mean frequencies."""

from pathlib import Path
from typing import BinaryIO

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
@options.images
@options.device
@options.config
@options.rejects
@options.output
def calibrate(
    records: BinaryIO, model: Path, split: str | None, images: Path, device: str,
    rejects: BinaryIO | None, output: str
) -> None:  # fmt: skip
    """Teach a model how sure it may be, on phrases that it has not been trained on.

    Reads phrases with boxes, [] where there is nothing to show, and writes calibration.json into the model's
    folder. From then on ground's `present` and scores are frequencies (a score: how often such a box reaches
    IoU .5), and with --coverage its boxes are widened to keep a promise. Prints one line of figures.

    \b
        $ medground calibrate held_out.jsonl --model runs/finetuned --images films
    """
    import json

    from medground import console, jsonl
    from medground.grounding import calibration, fitting
    from medground.models import grounder
    from medground.records import Phrase

    bad_lines = jsonl.BadLines(rejects)
    phrases = [p for p in jsonl.read(records, Phrase, bad_lines) if split is None or p.split == split]
    fitting.refuse_trained_on(phrases, model)
    network = grounder.load(model, options.device_of(device))
    known = console.progress(phrases, "phrases", len(phrases))
    found = fitting.calibrate(known, network, images, bad_lines.take_record)
    calibration.save(model, found)
    with jsonl.create(output) as stream:
        stream.write(json.dumps({"model": found.model} | found.figures).encode() + b"\n")
