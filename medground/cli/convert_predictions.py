"""medground convert predictions: files of other models -> groundings."""

from pathlib import Path
from typing import Any, BinaryIO

import click

from medground import registry
from medground.cli import options
from medground.cli.command import DATA, FILES, Number, command, option
from medground.cli.named import Named

HEATMAP = "heatmap"
FORMATS = {
    HEATMAP: registry.Entry(
        target="medground.evaluation.inputs.heatmap_boxes:read",
        help="heat maps: .npz, .safetensors, or a folder of .npy",
    )
}


@command(name="predictions")
@options.records_or_maps
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
    type=Named(registry.PREDICTION_FORMATS, more=FORMATS),
    required=True,
    group=FILES,
    help="Format of FILE.",
)
@options.coordinates()
@options.coco_images
@option(
    "--map-threshold",
    type=Number(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    group=DATA,
    help="heatmap: least value of a hot cell, over the highest value.",
)
@option(
    "--map-boxes",
    type=click.Choice(["peak", "largest", "all"]),
    default="largest",
    show_default=True,
    group=DATA,
    help="heatmap: component of the peak, the largest one, or all.",
)
@options.rejects
@options.output
def convert_predictions(
    records: BinaryIO,
    phrases: BinaryIO,
    kind: str,
    frame: str | None,
    coco_images: BinaryIO | None,
    map_threshold: float,
    map_boxes: Any,
    rejects: BinaryIO,
    output: str,
) -> None:
    """Convert predictions of other models to groundings.

    Reads all formats of evaluate. Boxes become pixels of the original image, and `model` is the name of the
    format. docs/evaluation.md describes the formats and the systems of coordinates.

    It also reads heat maps, as evaluate --protocol heatmap does. Each connected part of hot cells has a box
    and its highest value as the score. A map without a value above 0 has no box. NaN is never hot. With
    --rejects, the names of invalid arrays go to FILE.

    \b
        $ medground convert predictions qwen.jsonl --phrases test.jsonl --input-format qwen-vl \\
            -o qwen-groundings.jsonl
        $ medground convert predictions biovil.npz --phrases test.jsonl --input-format heatmap \\
            -o biovil.jsonl
    """
    options.refuse_two_stdins(records, phrases, *([coco_images] if coco_images else []))
    options.refuse_folders(records, unless=kind == HEATMAP)
    _refuse_unused(kind)
    from medground import jsonl, output_files
    from medground.evaluation import run
    from medground.evaluation.inputs import coco_results, heatmap_boxes, heatmap_files, predictions

    bad_lines = jsonl.BadLines(rejects)
    known = run.read_truth(phrases, bad_lines)
    with output_files.create(output) as stream:
        if kind == HEATMAP:
            rule = heatmap_boxes.Rule(map_threshold, map_boxes)
            with heatmap_files.opened(Path(jsonl.name_of(records))) as maps:
                jsonl.write(stream, heatmap_boxes.read(maps, known or [], rule, bad_lines))
        else:
            listed = coco_results.image_names(coco_images) if coco_images else None
            found = predictions.read(records, kind, frame, known or [], bad_lines, listed)
            jsonl.write(stream, predictions.as_records(found, known or [], kind))


def _refuse_unused(kind: str) -> None:
    """Raise UsageError for an option that the format has no use for."""
    boxes = {"frame": "--coordinates", "coco_images": "--coco-images"}
    maps = {"map_threshold": "--map-threshold", "map_boxes": "--map-boxes"}
    for name, flag in (boxes if kind == HEATMAP else maps).items():
        if options.is_given(name):
            raise click.UsageError(f"--input-format {kind} takes no {flag}")
