"""medground detect-anatomy: images -> boxes of named regions."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from medground import registry, shipped
from medground.cli import options
from medground.cli.command import DATA, FILES, MODEL, command, option
from medground.cli.named import Named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from medground.anatomy.detect import Detector, Reject
    from medground.anatomy.mask_boxes import Source
    from medground.records import Anatomy, Image
    from medground.resuming import Follow
    from medground.shards import Shard


@command()
@click.argument("image_list", metavar="[LIST]", type=click.Path(exists=True, allow_dash=True), default="-")
@options.config
@options.images
@option(
    "--model",
    metavar="FOLDER|FILE",
    type=options.DETECTOR,
    group=MODEL,
    help="Folder of train-detector or transformers, or a weights file  [default: example]",
)
@option(
    "--detector",
    type=Named(registry.DETECTORS),
    group=MODEL,
    help="Expected detector type (default: read from the weights).",
)
@option("--trust-pickle", is_flag=True, group=MODEL, help="Load --model of yolo although it can run code.")
@option(
    "--masks",
    type=click.Path(exists=True, path_type=Path),
    group=FILES,
    help="Segmentation masks instead of --model: folder or COCO JSON.",
)
@option("--mask-format", type=Named(registry.MASK_FORMATS), group=FILES, help="Format of --masks.")
@option(
    "--mask-names",
    type=options.FILE,
    group=FILES,
    help='TOML table [names], with lines like 3 = "left lung".',
)
@option(
    "--mask-fit",
    type=click.Choice(["stretch", "crop", "letterbox"]),
    old=["--fit"],
    group=FILES,
    help="Placement of masks of another shape  [default: pspnet: crop; cxas: stretch]",
)
@option(
    "--mask-sides",
    type=click.Choice(["patient", "viewer"]),
    default="patient",
    show_default=True,
    old=["--sides"],
    group=FILES,
    help="Whether left in mask names is the patient's or the viewer's.",
)
@option(
    "--batch-size",
    type=options.COUNT,
    default=8,
    show_default=True,
    old=["--batch"],
    help="Images per batch.",
)
@option(
    "--min-score",
    type=options.SHARE,
    default=0.3,
    show_default=True,
    group=DATA,
    help="Minimum detection score.",
)
@options.any_view(help="Also detect regions on images that are probably no frontal chest X-rays.")
@options.shard
@options.resume
@options.device
@options.rejects
@options.output
def detect_anatomy(image_list: str, resume: bool, output: str, **chosen: Any) -> None:
    """Detect the named regions of chest X-rays.

    LIST is a folder, an image, a file with one path per line, or JSON lines with image_id and path. Writes
    one anatomy record per image, with at most one box per region, in pixels of the original image. An image
    that is probably not a single upright frontal chest X-ray gets no boxes, a warning, and "other" as its
    view. --any-view leaves this check out.

    With --masks, boxes are computed from the segmentation masks of another program, without a detector.
    Masks are matched to an image by its path without suffix, its file name, or its image_id (NAME). Regions
    without a class are derived (lung zones are thirds of the lung height; the rules are in
    anatomy/masks.toml) or omitted. Components smaller than a tenth of a structure's largest one are ignored.

    For Chest ImaGenome's boxes, use `medground convert imagenome`: it writes the same records.

    \b
        $ medground detect-anatomy images/ --model runs/detector -o boxes.jsonl
        $ medground detect-anatomy list.jsonl --images images --model runs/detector --resume -o boxes.jsonl
        $ medground detect-anatomy images/ --masks masks --mask-format cxas -o boxes.jsonl
    """
    from medground import resuming

    _refuse_mixtures(chosen, resume, output)
    if resume:
        resuming.require_file(output)
    models: set[str] = set()

    def whole(lines: list[tuple[str, str]]) -> int:
        """Return the number of lines in complete batches, which are kept: any run has the same batches."""
        models.update(model for _, model in lines)
        result: int = len(lines) // chosen["batch_size"] * chosen["batch_size"]
        return result

    keys = ["image_id", "model"]
    with resuming.go_on(output, keys, options.task(), whole, resume) as (stream, held, follow):
        _detect(image_list, stream, {image_id for image_id, _ in held}, models, follow, **chosen)


def _refuse_mixtures(chosen: dict[str, Any], resume: bool, output: str) -> None:
    """Raise UsageError for options that cannot be combined, before anything is loaded."""
    if chosen["model"] and chosen["masks"]:
        raise click.UsageError("give --model or --masks, not both")
    if (chosen["masks"] is None) != (chosen["mask_format"] is None):
        raise click.UsageError("give --masks and --mask-format together")
    of_masks = {"mask_names": "--mask-names", "mask_fit": "--mask-fit", "mask_sides": "--mask-sides"}
    of_models = {"detector": "--detector", "trust_pickle": "--trust-pickle", "device": "--device"}
    for name, flag in (of_models if chosen["masks"] else of_masks).items():
        if options.is_given(name):
            raise click.UsageError(f"{flag} is for {'--model' if chosen['masks'] else '--masks'}")
    if chosen["any_view"] and chosen["masks"]:
        raise click.UsageError("--any-view is for --model: boxes of --masks need no view check")
    if resume and output == "-":
        raise click.UsageError("--resume requires -o FILE")


def _detect(
    image_list: str,
    stream: BinaryIO,
    held: set[str],
    models: set[str],
    follow: "Follow",
    images: Path,
    rejects: BinaryIO | None,
    shard: "Shard",
    **how: Any,
) -> None:
    """Write the anatomy of the images whose ids are not in `held`; raise if every image was rejected.

    `models` are the models in the lines of an earlier run.
    """
    from medground import console, jsonl
    from medground.anatomy import listing
    from medground.errors import MedgroundError, require_good
    from medground.records import Image

    bad_lines, rejected = jsonl.BadLines(rejects), 0

    def reject(record: Image, error: MedgroundError) -> None:
        nonlocal rejected
        rejected += 1
        bad_lines.take(jsonl.dumps(record), error)

    with closing(_open(**how)) as source:
        if models - {source.model}:
            raise MedgroundError(
                f"{_named(stream)}: has boxes of another model; give another file or delete it"
            )
        listed = follow(
            shard.keep(listing.open_list(image_list, images, bad_lines)), options.size_of_image(images)
        )
        records = (each for each in listed if each.image_id not in held)
        found = _find(source, records, images, reject, **how)
        written = jsonl.write(stream, console.progress(found, "detect-anatomy", start=len(held)), every=0)
    require_good(written + len(held), rejected, image_list, "image")


def _named(stream: BinaryIO) -> str:
    return str(stream.name).removesuffix(".partial")


def _open(**chosen: Any) -> "Detector | Source":
    """Return the detector of --model, or the source of --masks."""
    if chosen["masks"] is not None:
        from medground.anatomy import mask_boxes

        viewer = chosen["mask_sides"] == "viewer"
        how = {"kind": chosen["mask_format"], "names": chosen["mask_names"], "fit": chosen["mask_fit"]}
        return mask_boxes.Source(chosen["masks"], mask_boxes.Options(**how, viewer=viewer))
    from medground.anatomy import detector

    device = options.device_of(chosen["device"])
    model = options.named_or_example(chosen["model"], shipped.DETECTOR)
    return detector.load(model, device, chosen["detector"], chosen["trust_pickle"])


def _find(
    source: "Detector | Source",
    records: "Iterable[Image]",
    folder: Path,
    reject: "Reject",
    batch_size: int,
    min_score: float,
    any_view: bool,
    **_: Any,
) -> "Iterator[Anatomy]":
    from medground.anatomy import detect, mask_boxes
    from medground.models import view_check

    if isinstance(source, mask_boxes.Source):
        return mask_boxes.boxes_of_masks(records, folder, source, reject, min_score)
    check = None if any_view else view_check.load()
    return detect.detect_regions(records, folder, source, reject, batch_size, min_score, check)
