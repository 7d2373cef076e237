"""medground segment: masks, images and an image encoder -> predicted masks."""

from pathlib import Path
from typing import Any, BinaryIO

import click

from medground.cli import downstream_options, options
from medground.cli.command import DATA, FILES, MODEL, OBJECTIVE, TRAINING, command, option

WITH_HEAD = ("--encoder", "--images", "--threshold", "--batch-size", "--allow-leakage")


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
    from medground.cli import segment_run

    work = segment_run.applied if given["head"] else segment_run.trained
    work(records, jsonl.BadLines(rejects), output, given)


def _refuse_mixtures(output: str, given: dict[str, Any]) -> None:
    """Raise UsageError for options that cannot be combined, before anything is loaded."""
    if given["head"]:
        downstream_options.refuse_others("--head", *WITH_HEAD)
    if given["save_head"] and (len(set(given["shares"])) > 1 or given["seeds"] > 1):
        raise click.UsageError("--save-head keeps the decoder of one run: give one --share and --seeds 1")
    if given["encoder_lr"] and not given["unfreeze"]:
        raise click.UsageError("--encoder-lr needs --unfreeze")
    if given["resume"] and output == "-":
        raise click.UsageError("--resume requires -o FILE")
