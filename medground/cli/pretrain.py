"""medground pretrain: pairs and anatomy -> a model that knows where the parts of the chest are."""

from typing import Any, BinaryIO

import click

from medground.cli import options, training


@click.command()
@options.records
@click.option(
    "--anatomy",
    type=click.File("rb"),
    help="Anatomy records: the names of all their regions are learned too, not only the pairs' own.",
)
@click.option("--terms", default=6, show_default=True, help="Most region names asked of an image in a step.")
@click.option("--sentences", default=4, show_default=True, help="Most sentences asked of an image in a step.")
@click.option(
    "--objective",
    type=click.Choice(["agp"]),
    multiple=True,
    default=["agp"],
    show_default=True,
    help="What to learn; may be given again: all losses are added.",
)
@training.options(steps=20_000, batch=16, rate=5e-4, save_every=500)
@options.rejects
def pretrain(records: BinaryIO, anatomy: BinaryIO | None, rejects: BinaryIO | None, **chosen: Any) -> None:
    """Train a grounding model on anatomy (AGP): region names and sentences to region boxes.

    Reads pairs, as align writes them, and holds them in memory. The run folder holds config.toml,
    metrics.jsonl, the model, and resume.safetensors: the same command again goes on from there.
    SIGTERM and SIGUSR1 save and exit with 75.

    \b
        $ medground pretrain pairs.jsonl --anatomy boxes.jsonl --images films -o runs/agp
    """
    from medground import jsonl
    from medground.records import Anatomy, Pair
    from medground.training import examples

    bad_lines = jsonl.BadLines(rejects)
    found: dict[str, examples.Example] = {}
    examples.from_pairs(jsonl.read(records, Pair, bad_lines), found, terms=anatomy is None)
    if anatomy:
        examples.from_anatomy(jsonl.read(anatomy, Anatomy, bad_lines), found)
    training.run(list(found.values()), [], None, **chosen)
