"""medground cache: films -> decoded once, for training that is not to wait for them."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from medground.cli import options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medground.shards import Shard

log = logging.getLogger(__name__)


@click.command()
@options.records
@options.images
@options.folder("Folder of the cache; films that it holds are not made again.")
@click.option(
    "--size",
    type=options.COUNT,
    default=640,
    show_default=True,
    help="Side of the squares, the model's image size: small has 160, paper 640.",
)
@click.option("--verify", is_flag=True, help="Make nothing: say what is missing, damaged or out of date.")
@options.workers
@options.shard
@options.rejects
def cache(
    records: BinaryIO,
    images: Path,
    folder: Path,
    size: int,
    verify: bool,
    workers: int,
    shard: "Shard",
    rejects: BinaryIO | None,
) -> None:
    """Decode films once: grey, letterboxed, a byte a pixel, in files that training maps into memory.

    Reads lines with image_id and path: lists of images, anatomy, pairs or phrases. pretrain and finetune
    take the cache with --cache and train on the very same bytes as without. A killed run goes on when the
    same command is given again; several machines may fill one cache, each with a --shard of its own.
    242,000 films at 640 px are 99 GB.

    \b
        $ medground cache list.jsonl --images films -o cache --size 160
        $ medground cache list.jsonl --images films -o cache --size 160 --verify
    """
    from medground import jsonl
    from medground.data import image_cache as store
    from medground.records import Image

    bad_lines = jsonl.BadLines(rejects)
    listed = shard.keep(jsonl.read(records, Image, bad_lines))
    if verify:
        _report(store.problems(folder, size, images, listed), folder)
        return
    name = "films" if shard.count == 1 else f"films-{shard.number}of{shard.count}"
    added = store.build(listed, images, folder, size, bad_lines.take_record, workers, name)
    log.info("%s: %d films added", folder, added)


def _report(problems: "Iterable[str]", folder: Path) -> None:
    """A warning for each problem, and an error at the end where there was any."""
    from medground.errors import MedgroundError

    count = 0
    for count, problem in enumerate(problems, start=1):  # noqa: B007
        log.warning("%s", problem)
    if count:
        raise MedgroundError(f"{folder}: {count} problems; without --verify what is missing is added")
