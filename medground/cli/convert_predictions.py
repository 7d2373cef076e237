"""medground convert predictions: files of other models -> groundings."""

from typing import BinaryIO

import click

from medground import registry
from medground.cli import options
from medground.cli.command import FILES, command, option
from medground.cli.named import Named


@command(name="predictions")
@options.records
@option(
    "--phrases",
    type=click.File("rb"),
    required=True,
    group=FILES,
    help="Phrase records: the phrases and the sizes of their images.",
)
@option(
    "--input-format",
    "kind",
    type=Named(registry.PREDICTION_FORMATS),
    required=True,
    group=FILES,
    help="Format of FILE.",
)
@options.coordinates()
@options.coco_images
@options.rejects
@options.output
def convert_predictions(
    records: BinaryIO,
    phrases: BinaryIO,
    kind: str,
    frame: str | None,
    coco_images: BinaryIO | None,
    rejects: BinaryIO,
    output: str,
) -> None:
    """Convert predictions of other models to groundings.

    Reads all formats of evaluate. Boxes become pixels of the original image, and `model` is the name of the
    format. docs/evaluation.md describes the formats and the systems of coordinates.

    \b
        $ medground convert predictions qwen.jsonl --phrases test.jsonl --input-format qwen-vl \\
            -o qwen-groundings.jsonl
    """
    options.refuse_two_stdins(records, phrases, *([coco_images] if coco_images else []))
    from medground import jsonl, output_files
    from medground.evaluation import run
    from medground.evaluation.inputs import coco_results, predictions

    bad_lines = jsonl.BadLines(rejects)
    known = run.read_truth(phrases, bad_lines)
    listed = coco_results.image_names(coco_images) if coco_images else None
    with output_files.create(output) as stream:
        found = predictions.read(records, kind, frame, known or [], bad_lines, listed)
        jsonl.write(stream, predictions.as_records(found, known or [], kind))
