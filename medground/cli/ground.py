"""medground ground: phrases, images and a model -> boxes."""

from pathlib import Path
from typing import BinaryIO

import click

from medground.cli import options


@click.command()
@click.argument("image", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("words", metavar="[PHRASE]...", nargs=-1)
@click.option(
    "--model",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Model folder, as pretrain and finetune leave it.",
)
@click.option(
    "--phrases",
    "records",
    type=click.File("rb"),
    default="-",
    help="Phrase records, where no IMAGE is given.",
)
@options.images
@options.device
@click.option(
    "--overlay",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also draw each phrase's box with its score into this folder, one PNG a phrase.",
)
@options.rejects
@options.output
def ground(
    image: Path | None, words: tuple[str, ...], model: Path, records: BinaryIO, images: Path, device: str,
    overlay: Path | None, rejects: BinaryIO | None, output: str
) -> None:  # fmt: skip
    """Find phrases on chest films.

    Either one IMAGE and its PHRASEs, or phrase records from stdin or --phrases; phrases of one image
    that follow one another share its encoding. Writes groundings: boxes in pixels of the original
    image, best first, and `present`, the belief that there is something to show.

    \b
        $ medground ground --model runs/finetuned film.png "right lower lobe opacity"
        $ medground ground --model runs/finetuned --images films --phrases phrases.jsonl -o found.jsonl
    """
    if image and not words:
        raise click.UsageError("an IMAGE needs at least one PHRASE")
    from medground import console, grounding, jsonl
    from medground.models import grounder
    from medground.records import Phrase

    bad_lines = jsonl.BadLines(rejects)
    asked = grounding.phrases_of(image, words) if image else jsonl.read(records, Phrase, bad_lines)
    network = grounder.load(model, options.device_of(device))
    answers = grounding.ground_phrases(asked, network, images, bad_lines.take_record)
    answers = console.progress(answers, "phrases")
    if overlay:
        answers = grounding.draw_overlays(answers, images, overlay)
    with jsonl.create(output) as stream:
        jsonl.write(stream, (found for _, found in answers))
