"""medground answer: questions, images and a model -> predicted answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import click

from medground.cli import downstream_options, options
from medground.cli.command import DATA, FILES, MODEL, TRAINING, command, option

WITH_HEAD = ("--model", "--images", "--feature-maps", "--batch-size", "--allow-leakage")
Decorated = TypeVar("Decorated", bound=Callable[..., Any] | click.Command)


def _lr(name: str, help: str, default: float | None = None) -> Callable[[Decorated], Decorated]:
    """Return the option of a learning rate."""
    shown = default is not None
    return option(name, type=options.POSITIVE, default=default, show_default=shown, group=TRAINING, help=help)


@command()
@options.records
@options.model(required=True, help="Model folder whose encoders and fusion are used.")
@option(
    "--head",
    type=options.FILE,
    group=FILES,
    help="Apply the heads of --save-head to all questions of FILE, without training.",
)
@option(
    "--save-head",
    type=options.OutputFile(dir_okay=False, path_type=Path),
    group=FILES,
    help="Keep the heads in this .safetensors file; an interrupted one is continued.",
)
@option(
    "--head-type",
    type=click.Choice(["classes", "text"]),
    default="classes",
    show_default=True,
    group=MODEL,
    help="Classifier of training answers, or a writer of text.",
)
@option(
    "--layer",
    type=click.Choice(["fusion", "visual", "attention", "encoder"]),
    default="fusion",
    show_default=True,
    group=MODEL,
    help="classes: fused token, means, or attention to patches or the encoder's map.",
)
@option(
    "--feature-maps",
    type=options.OutputFolder(locked=False),
    group=FILES,
    help="Folder of maps as of pretrain --feature-maps; needs --freeze image-encoder or all.",
)
@option(
    "--text-tokens",
    type=options.Integer(min=4),
    group=MODEL,
    help="Length of questions (default: the model's; published 32).",
)
@option(
    "--freeze",
    type=click.Choice(["image-encoder", "text-encoder", "visual", "all"]),
    multiple=True,
    group=TRAINING,
    help="Part to keep fixed; all leaves only the head; repeatable.",
)
@option("--blank-images", is_flag=True, group=DATA, help="Use no image: the question-only baseline.")
@downstream_options.allow_leakage
@option(
    "--epochs",
    type=options.COUNT,
    default=15,
    show_default=True,
    group=TRAINING,
    help="Passes over the questions.",
)
@option(
    "--batch-size",
    type=options.COUNT,
    default=16,
    show_default=True,
    group=TRAINING,
    help="Questions per step.",
)
@_lr("--lr", "Learning rate of the encoders.", 5e-6)
@_lr("--head-lr", "That of the head (default: 50 times --lr; 1e-3 with --freeze all).")
@_lr("--fusion-lr", "That of the fusion (default: 5 times --lr).")
@option(
    "--weight-decay",
    type=options.Number(min=0),
    default=0.01,
    show_default=True,
    group=TRAINING,
    help="Weight decay of AdamW.",
)
@option(
    "--warmup-ratio",
    type=options.SHARE,
    default=0.1,
    show_default=True,
    group=TRAINING,
    help="Share of the steps with a rising learning rate.",
)
@downstream_options.seeds
@options.images
@options.device
@options.config
@options.rejects
@options.output
def answer(records: BinaryIO, rejects: BinaryIO, output: str, **given: Any) -> None:
    """Train a head for answers to questions about images, and predict answers.

    Reads questions of convert vqa-rad, slake and others, with the splits train, val and test. A classifier of
    the distinct training answers is trained on the fused output of --model, or with --layer attention
    or encoder on patches and tokens. The epoch with the best validation accuracy is kept, and predictions
    for the validation and test questions are written. --head-type text trains a writer with the question
    as prefix instead. With --head, FILE holds any questions. Questions about a difference of two images
    are left out.

    \b
        $ medground answer rad.jsonl --model runs/mdetr --images images --freeze all \\
          --seeds 3 --save-head rad.safetensors -o answered.jsonl
        $ medground evaluate answered.jsonl --truth rad.jsonl --train rad.jsonl \\
          --protocol answers --split test
        $ medground answer new-questions.jsonl --model runs/mdetr --images images --head rad.safetensors
    """
    if given["head"]:
        downstream_options.refuse_others("--head", *WITH_HEAD)
    if given["feature_maps"] and not given["head"] and not {"image-encoder", "all"} & {*given["freeze"]}:
        raise click.UsageError("--feature-maps needs --freeze image-encoder or --freeze all")
    options.refuse_nowhere(output, given["save_head"])
    from medground import jsonl, output_files
    from medground.cli import answer_run

    bad_lines = jsonl.BadLines(rejects)
    work = answer_run.reused if given["head"] else answer_run.fitted
    with output_files.create(output) as stream:  # locked before the training, not after it
        jsonl.write(stream, work(records, bad_lines, given))
