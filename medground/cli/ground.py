"""medground ground: phrases, images and a model -> boxes."""

from pathlib import Path
from typing import Any

import click

from medground.cli import options

FORMATS = ("jsonl", "csv", "coco", "dicom-sr")
SHARE = click.FloatRange(0, 1)
FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("image", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("words", metavar="[PHRASE]...", nargs=-1)
@click.option(
    "--model",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Model folder, as pretrain, finetune and export leave it  [default: the example that comes with "
    "medground, trained on synthetic films]",
)
@click.option(
    "--phrases",
    "records",
    type=click.File("rb"),
    default="-",
    help="Phrase records, where no IMAGE is given.",
)
@click.option("--report", type=click.File("rb"), help="The report of IMAGE: look for every finding in it.")
@options.images
@options.device
@click.option(
    "--engine",
    type=click.Choice(["auto", "torch", "exported", "bf16"]),
    default="auto",
    show_default=True,
    help="auto: the export where the folder holds one, else torch; bf16: the export, faster and less exact.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    default="jsonl",
    show_default=True,
    help="csv: a row a box; coco: one JSON; dicom-sr: a structured report a DICOM image, in the folder -o.",
)
@click.option(
    "--coverage",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Widen boxes so that this share of true boxes lies wholly inside; needs a calibrated model.",
)
@click.option(
    "--calibrated/--raw",
    default=True,
    help="Give frequencies where the model is calibrated (default), or the network's own scores.",
)
@click.option(
    "--as-hung",
    is_flag=True,
    help="Do not look whether a film is mirrored; only models calibrated with --orientation ever do.",
)
@click.option("--min-score", type=SHARE, help="Score that a phrase's further boxes need (default 0.5).")
@click.option("--min-present", type=SHARE, help="Drop the boxes of phrases less likely to be present.")
@click.option(
    "--overlay",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also draw each phrase's boxes with their scores into this folder, one PNG a phrase.",
)
@click.option("--html", type=FILE, help="Also write a page: images with boxes to switch on and off.")
@click.option("--heatmap", type=FILE, help="Also write a map of each phrase, FILE.safetensors.")
@options.config
@options.shard
@options.resume
@options.rejects
@options.output
def ground(image: Path | None, words: tuple[str, ...], **chosen: Any) -> None:
    """Find phrases on chest films.

    Either one IMAGE with its PHRASEs or its --report, or phrase records from stdin or --phrases; phrases of
    one image that follow one another share its encoding. Writes groundings: boxes in pixels of the original
    image, best first, and `present`, the belief that there is something to show. The best box is written
    whatever `present` says; what a report calls absent is answered so, without boxes.

    \b
        $ medground ground --model runs/finetuned film.png "right lower lobe opacity"
        $ medground ground --model runs/finetuned film.png --report report.txt --html found.html
        $ medground ground --model runs/finetuned --images films --phrases phrases.jsonl -o found.jsonl
    """
    _refuse_mixtures(image, words, chosen)
    lines = None if chosen["kind"] == "dicom-sr" else chosen["output"]  # else a folder, which is made
    options.refuse_nowhere(lines, chosen["html"], chosen["heatmap"])
    from medground.cli import ground_modes

    ground_modes.run(image, words, **chosen)


def _refuse_mixtures(image: Path | None, words: tuple[str, ...], chosen: dict[str, Any]) -> None:
    """Raise for what does not go together, before anything is loaded."""
    if image and bool(words) == bool(chosen["report"]):
        raise click.UsageError("an IMAGE needs PHRASEs or --report, one of the two")
    if not all(map(str.strip, words)):
        raise click.UsageError("an empty PHRASE says nothing to look for")
    if chosen["report"] and not image:
        raise click.UsageError("--report belongs to one IMAGE")
    if chosen["coverage"] is not None:
        if not chosen["calibrated"]:
            raise click.UsageError("--coverage needs the calibration: leave out --raw")
        if chosen["min_score"] is not None or chosen["min_present"] is not None:
            raise click.UsageError("--coverage speaks of all boxes: leave out --min-score, --min-present")
    if chosen["kind"] == "dicom-sr" and chosen["output"] == "-":
        raise click.UsageError("--format dicom-sr writes a file an image: name their folder with -o")
    if chosen["resume"] and (chosen["output"] == "-" or chosen["kind"] != "jsonl"):
        raise click.UsageError("--resume needs -o FILE, and JSON lines")
    if chosen["resume"] and (chosen["html"] or chosen["heatmap"]):
        raise click.UsageError("--resume does not go on with --html or --heatmap")
    if chosen["heatmap"] and chosen["heatmap"].suffix != ".safetensors":
        raise click.BadParameter("name it FILE.safetensors", param_hint="--heatmap")
