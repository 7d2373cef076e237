"""medground segment: masks, images and an image encoder -> predicted masks."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from medground.cli import downstream_options, options
from medground.cli.command import DATA, FILES, MODEL, OBJECTIVE, TRAINING, command, option

if TYPE_CHECKING:
    from medground.downstream.segment.stage import Job

log = logging.getLogger(__name__)
OF_TRAINING = (
    "save_head",
    "decoder",
    "widths",
    "image_size",
    "unfreeze",
    "encoder_lr",
    "negatives",
    "resume",
)


@command()
@options.records
@downstream_options.encoder
@option(
    "--decoder",
    type=click.Choice(["unet", "setr-pup"]),
    group=MODEL,
    help="Decoder (default: unet, or setr-pup for an encoder with one feature map).",
)
@option(
    "--width",
    "widths",
    type=options.COUNT,
    multiple=True,
    group=MODEL,
    help="Channels of a stage of the decoder, coarse to fine; repeatable.",
)
@downstream_options.image_size
@option("--unfreeze", is_flag=True, group=MODEL, help="Train the encoder, too.")
@option(
    "--head",
    type=options.FILE,
    group=FILES,
    help="Apply this head of --save-head to the images of FILE, without training.",
)
@option(
    "--save-head",
    type=options.OutputFile(dir_okay=False, path_type=Path),
    group=FILES,
    help="Keep the decoder of a single run in this .safetensors file.",
)
@downstream_options.shares
@downstream_options.seeds
@option(
    "--negatives",
    type=options.Number(min=0),
    group=DATA,
    help="Training images without a mask per image with one (default: all).",
)
@option("--scale", type=options.SHARE, default=0.1, show_default=True, group=DATA, help="Random zoom.")
@option(
    "--rotate",
    type=options.Number(0, 180),
    default=10.0,
    show_default=True,
    group=DATA,
    help="Random rotation in degrees.",
)
@option(
    "--augment-prob",
    type=options.SHARE,
    default=0.5,
    show_default=True,
    group=DATA,
    help="Probability of --scale and --rotate.",
)
@option(
    "--threshold",
    type=options.OPEN_SHARE,
    default=0.5,
    show_default=True,
    group=DATA,
    help="Probability from which a pixel belongs to a mask.",
)
@downstream_options.allow_leakage
@option(
    "--focal-weight",
    type=options.Number(min=0),
    default=10.0,
    show_default=True,
    group=OBJECTIVE,
    help="Weight of the focal loss.",
)
@option(
    "--focal-gamma",
    type=options.Number(min=0),
    default=2.0,
    show_default=True,
    group=OBJECTIVE,
    help="Exponent of the focal loss.",
)
@option(
    "--dice-weight",
    type=options.Number(min=0),
    default=1.0,
    show_default=True,
    group=OBJECTIVE,
    help="Weight of -log(soft Dice).",
)
@option("--epochs", type=options.COUNT, default=50, show_default=True, group=TRAINING, help="Most epochs.")
@option(
    "--patience",
    type=options.COUNT,
    default=10,
    show_default=True,
    group=TRAINING,
    help="Epochs without a lower validation loss before a run ends.",
)
@option(
    "--batch-size",
    "images_per_step",
    type=options.COUNT,
    default=8,
    show_default=True,
    group=TRAINING,
    help="Images per step.",
)
@option(
    "--lr",
    type=options.POSITIVE,
    default=5e-4,
    show_default=True,
    group=TRAINING,
    help="Learning rate of the decoder.",
)
@option(
    "--encoder-lr",
    type=options.POSITIVE,
    group=TRAINING,
    help="Learning rate of the encoder with --unfreeze (default: --lr / 10).",
)
@option(
    "--weight-decay",
    type=options.Number(min=0),
    default=0.05,
    show_default=True,
    group=TRAINING,
    help="Weight decay of AdamW.",
)
@options.images
@options.device
@options.config
@options.resume
@options.rejects
@options.output
def segment(records: BinaryIO, rejects: BinaryIO, output: str, **given: Any) -> None:
    """Train a segmentation head on an image encoder, and predict masks.

    Reads masks of convert siim-masks or rsna-masks, with the splits train, val and test. For each --share of
    the training patients and each seed, a decoder over the feature maps of the frozen encoder is trained on
    MGCA's loss, and its masks of the validation and test images are written. evaluate --protocol segmentation
    scores them. --resume keeps finished runs. With --head, FILE holds any records with image_id and path.

    \b
        $ medground segment masks.jsonl --encoder runs/asg --images images \\
          --share 0.1 --share 1 --seeds 3 -o segmented.jsonl
        $ medground evaluate segmented.jsonl --truth masks.jsonl --protocol segmentation --split test
        $ medground segment masks.jsonl --encoder runs/asg --images images \\
          --save-head head.safetensors -o segmented.jsonl
        $ medground segment new.jsonl --encoder runs/asg --images images --head head.safetensors
    """
    _refuse_mixtures(output, given)
    options.refuse_nowhere(output, given["save_head"])
    from medground import jsonl

    bad_lines = jsonl.BadLines(rejects)
    if given["head"]:
        _apply(records, bad_lines, output, given)
    else:
        _train(records, bad_lines, output, given)


def _refuse_mixtures(output: str, given: dict[str, Any]) -> None:
    """Raise UsageError for options that cannot be combined, before anything is loaded."""
    if given["head"]:
        for name in OF_TRAINING:
            if given[name]:
                raise click.UsageError(f"--{name.replace('_', '-').removesuffix('s')}: not with --head")
    if given["save_head"] and (len(set(given["shares"])) > 1 or given["seeds"] > 1):
        raise click.UsageError("--save-head keeps the decoder of one run: give one --share and --seeds 1")
    if given["encoder_lr"] and not given["unfreeze"]:
        raise click.UsageError("--encoder-lr needs --unfreeze")
    if given["resume"] and output == "-":
        raise click.UsageError("--resume requires -o FILE")


def _train(records: BinaryIO, bad_lines: Any, output: str, given: dict[str, Any]) -> None:
    """Write the masks of all runs that the output does not have yet."""
    from medground import console, jsonl, resuming
    from medground.downstream import splits
    from medground.downstream.segment import saved, stage

    if given["resume"]:
        resuming.is_unmarked(output)
    job, leaks = _job(records, bad_lines, given)
    runs = splits.runs_of(given["shares"], range(given["seeds"]))
    for each in runs:
        job.rows(*each)  # no run fails after hours of others
    lines = sum(len(job.data.records[row]) for name in ("val", "test") for row in job.data.rows[name])

    def whole(held: list[tuple[Any, ...]]) -> int:
        return len(held) // lines * lines

    task = options.task() | {"encoder": job.encoder.name, "masks": job.data.digest()}
    with resuming.go_on(output, ("share", "seed"), task, whole, given["resume"]) as (stream, done, _):
        for number, (share, seed) in enumerate(runs, start=1):
            if (share, seed) in done:
                continue
            label = f"run {number} of {len(runs)} (share {share:g}, seed {seed}), epochs"
            segmenter, masks = stage.run(
                *(job, share, seed),
                lambda found: console.progress(found, label, given["epochs"]),  # noqa: B023
            )
            if given["save_head"]:
                seen = [job.data.records[row][0] for row in (*job.rows(share, seed), *job.data.rows["val"])]
                keys = {"share": share, "seed": seed} | job.extra
                saved.save(given["save_head"], segmenter, job, seen, keys, leaks)
            jsonl.write(stream, masks)


def _job(records: BinaryIO, bad_lines: Any, given: dict[str, Any]) -> "tuple[Job, bool]":
    """Return the job of the options, with its images in memory, and whether patients leak."""
    from medground import console, jsonl, leakage, mask_records
    from medground.downstream import image_encoders
    from medground.downstream.segment import decoders, fit, images, stage, views
    from medground.records import Mask

    allowed, reject = given["allow_leakage"], bad_lines.take_record
    masks = images.grouped(jsonl.read(records, Mask, bad_lines, mask_records.check()), reject)
    device = options.device_of(given["device"])
    encoder = image_encoders.load(given["encoder"], given["image_size"], device)
    data, leaks = images.read(
        *(masks, given["images"], encoder.size, reject, allowed),
        progress=lambda found: console.progress(found, "images", len(masks)),
    )
    if encoder.model is not None:
        parts = {name: [data.records[row][0] for row in rows] for name, rows in data.rows.items()}
        found = leakage.with_model(parts, encoder.model)
        leaks |= leakage.check(found, allowed, "use other images, or give --allow-leakage")
    shape = decoders.shape_of(
        *(stage.maps_of(encoder), encoder.size, len(data.classes), given["decoder"], given["widths"] or None)
    )
    log.info("decoder %s over %d feature maps, widths %s", shape.name, len(shape.maps), shape.widths)
    names = ("epochs", "patience", "lr", "weight_decay", "focal_weight", "focal_gamma", "dice_weight")
    settings = fit.Settings(
        **{name: given[name] for name in (*names, "unfreeze", "encoder_lr")},
        batch_size=given["images_per_step"],
        ranges=views.Ranges(scale=given["scale"], rotate=given["rotate"], probability=given["augment_prob"]),
    )
    job = stage.Job(
        encoder=encoder,
        shape=shape,
        data=data,
        settings=settings,
        device=device,
        threshold=given["threshold"],
        negatives=given["negatives"],
        extra={"decoder": shape.name} | ({"leakage": True} if leaks else {}),
    )
    return job, leaks


def _apply(records: BinaryIO, bad_lines: Any, output: str, given: dict[str, Any]) -> None:
    """Write the masks of a kept head on the images of the records."""
    from medground import console, jsonl, leakage, output_files
    from medground.downstream import image_encoders
    from medground.downstream.segment import saved, stage
    from medground.records import Image

    device, allowed = options.device_of(given["device"]), given["allow_leakage"]
    head = saved.read(given["head"])
    encoder = image_encoders.load(given["encoder"], head.shape.size, device)
    segmenter = saved.build(head, encoder, device)
    listed = list({each.path: each for each in jsonl.read(records, Image, bad_lines)}.values())
    trained = leakage.Patients.trained(head.training)
    leaks = leakage.overlap(listed, trained, "the images and the training data of --head", "the images")
    marked = leakage.check(leaks, allowed, "use other images, or give --allow-leakage") or head.leaks
    extra = {"model": encoder.name} | head.keys | ({"leakage": True} if marked else {})
    found = stage.apply(
        *(segmenter, head.classes, listed, given["images"], given["threshold"], bad_lines.take_record),
        *(extra, given["images_per_step"]),
    )
    with output_files.create(output) as stream:
        jsonl.write(stream, console.progress(found, "masks", len(listed) * len(head.classes)))
