"""medground cache: images -> a folder of decoded images for faster training."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from medground.cli import options
from medground.cli.command import DATA, command, option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from medground.shards import Shard

log = logging.getLogger(__name__)


@command()
@options.records
@options.images
@options.config
@options.folder("Cache folder; images already in it are skipped.", locked=False)
@option(
    "--image-size",
    type=options.SIDE,
    default=640,
    show_default=True,
    old=["--size"],
    group=DATA,
    help="Side of the squares: 160 for small models, 640 for paper.",
)
@option("--verify", is_flag=True, group=DATA, help="Only list missing, damaged and outdated images.")
@options.workers
@options.shard
@options.rejects
def cache(
    records: BinaryIO,
    images: Path,
    folder: Path,
    image_size: int,
    verify: bool,
    workers: int,
    shard: "Shard",
    rejects: BinaryIO | None,
) -> None:
    """Decode images once, into files that training maps into memory.

    Reads records with image_id and path: images, anatomy, pairs or phrases. Stores grey, letterboxed
    images, one byte per pixel: 242,000 images at 640 px take 99 GB. pretrain and finetune use the cache with
    --cache and train on the same bytes as without it. Run the same command again to continue. Several
    machines may fill one cache, each with its own --shard.

    \b
        $ medground cache list.jsonl --images images -o cache --image-size 160
        $ medground cache list.jsonl --images images -o cache --image-size 160 --verify
    """
    from medground import jsonl
    from medground.data import image_cache as store
    from medground.records import Image

    bad_lines = jsonl.BadLines(rejects)
    listed = shard.keep(jsonl.read(records, Image, bad_lines))
    if verify:
        _report(store.problems(folder, image_size, images, listed), folder)
        return
    name = "images" if shard.count == 1 else f"images-{shard.number}of{shard.count}"
    added = store.build(listed, images, folder, image_size, bad_lines.take_record, workers, name)
    log.info("%s: %d images added", folder, added)


def _report(problems: "Iterable[str]", folder: Path) -> None:
    """Log a warning for each problem; raise MedgroundError if there was one."""
    from medground.errors import MedgroundError

    count = 0
    for count, problem in enumerate(problems, start=1):  # noqa: B007
        log.warning("%s", problem)
    if count:
        raise MedgroundError(f"{folder}: {count} problems; run without --verify to add what is missing")
