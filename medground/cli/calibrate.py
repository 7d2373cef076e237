"""medground calibrate: held-out phrases with boxes and a model -> calibrated scores."""

from pathlib import Path
from typing import Any, BinaryIO

from medground.cli import options
from medground.cli.command import MODEL, command, option


@command()
@options.records
@options.model(required=True, help="Model folder; calibration.json is written into it.")
@options.split
@option(
    "--data-name",
    metavar="NAME",
    group=MODEL,
    help="Name of the data, stated in records (default: the name of FILE).",
)
@option(
    "--fit-flip-correction",
    is_flag=True,
    old=["--orientation"],
    group=MODEL,
    help="Also fit flip correction, on images that are not flipped.",
)
@options.images
@options.device
@options.config
@options.rejects
@options.output
def calibrate(
    records: BinaryIO, model: Path, split: str | None, data_name: str | None, fit_flip_correction: bool,
    images: Path, device: str, rejects: BinaryIO | None, output: str
) -> None:  # fmt: skip
    """Calibrate a model's scores on held-out phrases.

    Reads phrases with boxes ([] for absent findings) and writes calibration.json into the model folder.
    `ground` then returns calibrated probabilities: `present`, and for each box the probability of IoU >= 0.5.
    It also enables ground --coverage. `calibrated` in the records names the data of each of them. Without
    absent findings, `present` is not calibrated.

    With --fit-flip-correction, orientation.safetensors is written too. `ground` then checks each image for a
    left-right flip and corrects it; corrected results have `mirrored` true. The threshold is set so that at
    most 1 in 1,000 unflipped images is corrected. Give at least 1,000 images like those of later use.

    Prints one line of metrics.

    \b
        $ medground calibrate held_out.jsonl --model runs/finetuned --images images
    """
    options.refuse_shipped(model)
    import json

    from medground import boxes, console, jsonl, leakage, locks, output_files
    from medground.evaluation import sources
    from medground.grounding import calibration, fitting
    from medground.models import grounder
    from medground.records import Phrase

    bad_lines = jsonl.BadLines(rejects)
    read = jsonl.read(records, Phrase, bad_lines, boxes.check_phrase)
    phrases = sources.of_split(list(read), split, jsonl.name_of(records), "phrase")
    leaks = leakage.with_model({records.name: phrases}, model)
    leakage.check(leaks, False, "calibrate on other phrases (--split val)")
    network = grounder.load(model, options.device_of(device))
    known = console.progress(phrases, "phrases", len(phrases))
    name = data_name or Path(jsonl.name_of(records)).stem
    with locks.hold(model):
        found = fitting.calibrate(known, network, images, bad_lines.take_record, name)
        calibration.save(model, found)
        figures = {"model": found.model} | found.figures
        if fit_flip_correction:
            figures["orientation"] = _fit_flip_correction(phrases, network, images, model)
    with output_files.create(output) as stream:
        stream.write(json.dumps(figures).encode() + b"\n")


def _fit_flip_correction(phrases: list[Any], network: Any, images: Path, folder: Path) -> dict[str, Any]:
    """Write the flip correction into the model folder and return its cross-validated figures."""
    from medground import console
    from medground.grounding import flip
    from medground.models import letterboxed

    paths = list(dict.fromkeys(phrase.path for phrase in phrases))
    read = (letterboxed.read(images / path, network.config.image_size) for path in paths)
    found, figures = flip.fit(console.progress(read, "images", len(paths)), network)
    flip.save(folder, found)
    return figures
