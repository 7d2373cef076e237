"""Options of the files that ground and render write, and what they refuse."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from medground import registry
from medground.cli import options
from medground.cli.command import FILES, option
from medground.cli.named import Named

if TYPE_CHECKING:
    from medground.grounding.outputs import Pictures

FILE = options.OutputFile(dir_okay=False, path_type=Path)
PICTURES = ("overlay", "html", "heatmap", "png")

pictures = options.with_all(
    [
        option(
            "--overlay",
            type=options.OutputFolder(locked=False),
            group=FILES,
            help="Also draw boxes into this folder, one PNG per phrase.",
        ),
        option("--html", type=FILE, group=FILES, help="Also write an HTML page of images with boxes."),
        option(
            "--heatmap", type=FILE, group=FILES, help="Also write a heat map per phrase, FILE.safetensors."
        ),
        option(
            "--png",
            type=options.OutputFolder(locked=False),
            group=FILES,
            help="Also copy images as PNG into this folder; records name them.",
        ),
    ]
)


def output_format(default: str | None) -> Callable[[options.Decorated], options.Decorated]:
    """Return --output-format with this default."""
    return option(
        "--output-format",
        type=Named(registry.OUTPUT_FORMATS),
        default=default,
        show_default=default is not None,
        old=["--format"],
        old_keys=["kind"],
        group=FILES,
        help="Format of the output.",
    )


def refuse(chosen: dict[str, Any]) -> None:
    """Raise an error for outputs that cannot be written, before anything is loaded."""
    kind = chosen["output_format"]
    entry = None if kind is None else registry.OUTPUT_FORMATS[kind]
    if entry and entry.one_per_image and chosen["output"] == "-":
        raise click.UsageError(f"--output-format {kind} writes one file per image: give -o FOLDER")
    if chosen["png"] and entry and entry.check:
        raise click.UsageError(f"--png: {kind} is about the images themselves, not their copies")
    if chosen["heatmap"] and chosen["heatmap"].suffix != ".safetensors":
        raise click.BadParameter("name it FILE.safetensors", param_hint="--heatmap")
    is_folder = entry is not None and entry.one_per_image
    options.refuse_nowhere(None if is_folder else chosen["output"], chosen["html"], chosen["heatmap"])


def pictures_of(chosen: dict[str, Any]) -> "Pictures":
    """Return the files of pictures that the options name."""
    from medground.grounding.outputs import Pictures

    return Pictures(**{name: chosen[name] for name in PICTURES})
