"""medground convert weights: a published checkpoint -> a folder of ours."""

from pathlib import Path

import click

from medground.cli import options
from medground.cli.command import MODEL, command, option

KINDS = ["detr", "transvg", "mdetr", "medrpg", "agp"]


@command(name="weights")
@click.argument("checkpoint", metavar="CHECKPOINT", type=options.FILE)
@option(
    "--from",
    "kind",
    type=click.Choice(KINDS),
    required=True,
    group=MODEL,
    help="The public code that wrote the checkpoint.",
)
@option(
    "--text-encoder",
    metavar="FOLDER|hub:NAME",
    type=options.ENCODER,
    group=MODEL,
    help="Its text encoder, for config and tokenizer (all but detr).",
)
@option(
    "--image-size",
    type=options.COUNT,
    default=640,
    show_default=True,
    group=MODEL,
    help="Side of its images, if the checkpoint does not state it.",
)
@option(
    "--heads",
    type=options.COUNT,
    default=8,
    show_default=True,
    group=MODEL,
    help="Attention heads, if the checkpoint does not state them.",
)
@option("--num-queries", type=options.COUNT, group=MODEL, help="mdetr: keep only the first N queries.")
@option("--trust-pickle", is_flag=True, group=MODEL, help="Read a pickle; only tensors and plain values are.")
@options.folder("Folder to write.")
def convert_weights(
    checkpoint: Path,
    folder: Path,
    kind: str,
    text_encoder: str | None,
    image_size: int,
    heads: int,
    num_queries: int | None,
    trust_pickle: bool,
) -> None:
    """Convert a published checkpoint to a model folder.

    detr gives an image encoder for --image-encoder, with the layers over it for --norm post. The others give
    a model for --init-from. conversion.json in the folder lists every tensor with its new name, or the reason
    why it is left out. Unknown and missing tensors are errors.

    \b
        $ medground convert weights --from detr detr-r50.pth --trust-pickle -o weights/detr
    """
    from medground import checkpoints
    from medground.models import conversion

    if kind != "detr" and not text_encoder:
        raise click.UsageError(f"--from {kind} requires --text-encoder, for its config and tokenizer")
    if checkpoints.is_pickle(checkpoint) and not trust_pickle:
        raise click.UsageError(f"{checkpoint} is a pickle: add --trust-pickle to read its tensors")
    settings = conversion.Settings(
        kind=kind, text_encoder=text_encoder, image_size=image_size, heads=heads, queries=num_queries
    )
    found = conversion.convert(checkpoint, folder, settings)
    click.echo(f"{folder}: {len(found.sources)} tensors converted, {len(found.left_out)} left out", err=True)
