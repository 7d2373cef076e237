"""medground render: groundings of any model and images -> pictures and other formats."""

from typing import Any, BinaryIO

import click

from medground.cli import options, output_formats
from medground.cli.command import FILES, command, option


@command()
@options.records
@options.images
@option(
    "--phrases",
    type=click.File("rb"),
    group=FILES,
    help="Phrase records: paths and sizes of images, true boxes to draw.",
)
@output_formats.output_format(None)
@output_formats.pictures
@options.config
@options.rejects
@options.output
def render(records: BinaryIO, phrases: BinaryIO | None, **chosen: Any) -> None:
    """Draw and convert groundings of any model.

    Reads groundings and writes the same files as ground, without a model. An image is the file in --images
    whose name is the image_id; the key `path` of a grounding or a record of --phrases may name another one.

    \b
        $ medground render groundings.jsonl --images images --phrases test.jsonl --html page.html
        $ medground render groundings.jsonl --images images --output-format radfact -o found.json
    """
    _refuse_nothing(chosen)
    output_formats.refuse(chosen)
    options.refuse_two_stdins(records, *([phrases] if phrases else []))
    from medground import jsonl
    from medground.boxes import check_phrase
    from medground.grounding import outputs, rendering
    from medground.records import Grounding, Phrase

    bad_lines, folder = jsonl.BadLines(chosen["rejects"]), chosen["images"]
    known = jsonl.read(phrases, Phrase, bad_lines, check_phrase) if phrases else ()
    rendered = rendering.Rendering(folder, known)
    pairs = rendered.pairs(jsonl.read(records, Grounding, bad_lines, rendered.check))
    drawn = outputs.with_pictures(pairs, folder, output_formats.pictures_of(chosen))
    outputs.write(drawn, chosen["output"], chosen["output_format"], folder)


def _refuse_nothing(chosen: dict[str, Any]) -> None:
    """Raise UsageError if there is nothing to write, or no format for -o."""
    if chosen["output_format"] is None:
        if chosen["output"] != "-":
            raise click.UsageError("-o requires --output-format")
        if not any(chosen[name] for name in output_formats.PICTURES):
            raise click.UsageError("nothing to write: give --output-format, --html, --overlay or --heatmap")
