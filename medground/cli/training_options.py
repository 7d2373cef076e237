"""Options that pretrain and finetune share."""

import math
from collections.abc import Callable
from typing import Any

import click

from medground import registry
from medground.cli import options as shared
from medground.cli.command import DATA, FILES, MODEL, OBJECTIVE, TRAINING, Integer, option
from medground.cli.named import Named
from medground.training.trackers import NAMES as TRACKERS


def _weights(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, float]:
    """Return LOSS=NUMBER, given any number of times, as a table."""
    weights = {}
    for each in given:
        name, _, number = each.partition("=")
        try:
            weights[name] = float(number)
        except ValueError:
            raise click.BadParameter(f"{each!r}: expected LOSS=NUMBER, such as giou=1") from None
        if not 0 <= weights[name] < math.inf:
            raise click.BadParameter(f"{each!r}: expected a finite number, 0 or greater")
    return weights


init_from = option(
    "--init-from",
    metavar="FOLDER",
    type=shared.GROUNDER,
    old=["--from"],
    old_keys=["start"],
    group=MODEL,
    help="Model folder to start from (default: train from scratch).",
)
paraphrases = option(
    "--paraphrases",
    type=shared.NONE_OR_MORE,
    default=0,
    show_default=True,
    group=DATA,
    help="Lexicon paraphrases per phrase; half of the draws use one.",
)
_SAME_FOR_ALL = [
    shared.config,
    shared.images,
    option(
        "--cache",
        type=shared.FOLDER,
        group=FILES,
        help="Folder of decoded images that `medground cache` wrote.",
    ),
    option(
        "--feature-maps",
        type=shared.OutputFolder(locked=False),
        group=FILES,
        help="Folder that keeps the maps of the image encoder's frozen stages.",
    ),
    shared.run_folder,
    option(
        "--model-size",
        type=click.Choice(["small", "paper"]),
        default="small",
        show_default=True,
        old=["--size"],
        group=MODEL,
        help="small: trains on a laptop; paper: AGP's shape at 640 px.",
    ),
    option(
        "--architecture",
        type=Named(registry.ARCHITECTURES),
        default="transvg",
        show_default=True,
        group=MODEL,
        help="Architecture of the network.",
    ),
    option(
        "--image-encoder",
        metavar="FOLDER|hub:NAME",
        type=shared.ENCODER,
        group=MODEL,
        help="Pre-trained image encoder for transformers.",
    ),
    option(
        "--text-encoder",
        metavar="FOLDER|hub:NAME",
        type=shared.ENCODER,
        group=MODEL,
        help="Pre-trained text encoder with its tokenizer.",
    ),
    option(
        "--norm",
        type=click.Choice(["pre", "post"]),
        group=MODEL,
        help="post: layers as in DETR, TransVG and MDETR (default: pre).",
    ),
    option(
        "--padding",
        type=click.Choice(["black", "mean", "visible"]),
        group=MODEL,
        help="mean: of the mean color; visible: black, not masked (default: black).",
    ),
    option("--image-size", type=shared.COUNT, group=MODEL, help="Side of the square (default: by size)."),
    option(
        "--text-tokens",
        type=Integer(min=4),
        group=MODEL,
        help="Text length (default: the text encoder's; 50 with --norm post).",
    ),
    option("--text-layers", type=shared.COUNT, group=MODEL, help="Use the text encoder's first N layers."),
    option("--sum-word-pieces", is_flag=True, group=MODEL, help="asg: sum the pieces of a word."),
    option("--num-queries", type=shared.COUNT, group=MODEL, help="mdetr: most boxes per phrase (8)."),
    option(
        "--freeze",
        type=click.Choice(["image-encoder", "early-stages", "text-encoder", "visual", "batch-norm", "stem"]),
        multiple=True,
        group=TRAINING,
        help="Part to keep fixed; early-stages: all but the encoder's last; repeatable.",
    ),
    option(
        "--loss-weight",
        multiple=True,
        metavar="LOSS=NUMBER",
        callback=_weights,
        old=["--weight"],
        group=OBJECTIVE,
        help="Weight of a loss, such as giou=1; repeatable.",
    ),
    option(
        "--encoder-lr",
        type=shared.POSITIVE,
        old=["--encoder-rate"],
        group=TRAINING,
        help="Peak learning rate of both encoders (default: --lr).",
    ),
    option(
        "--text-lr",
        type=shared.POSITIVE,
        group=TRAINING,
        help="Peak learning rate of the text encoder (default: --encoder-lr).",
    ),
    option(
        "--lr-schedule",
        type=click.Choice(["cosine", "step"]),
        default="cosine",
        show_default=True,
        old=["--schedule"],
        group=TRAINING,
        help="Decay: half cosine, or x 0.1 once (see --lr-drop).",
    ),
    option(
        "--lr-drop",
        type=shared.OPEN_SHARE,
        default=2 / 3,
        show_default="2/3",
        group=TRAINING,
        help="Share of steps before the drop of --lr-schedule step.",
    ),
    option(
        "--text-schedule",
        type=click.Choice(["same", "linear"]),
        default="same",
        show_default=True,
        group=TRAINING,
        help="linear: the text encoder's learning rate falls to 0.",
    ),
    option(
        "--text-warmup-ratio",
        type=shared.SHARE,
        group=TRAINING,
        help="--warmup-ratio of the text encoder (default: the same).",
    ),
    option(
        "--warmup-ratio",
        type=shared.SHARE,
        default=0.05,
        show_default=True,
        old=["--warmup"],
        group=TRAINING,
        help="Share of the steps with a rising learning rate.",
    ),
    option(
        "--weight-decay",
        type=shared.Number(min=0),
        default=1e-4,
        show_default=True,
        group=TRAINING,
        help="Weight decay of AdamW.",
    ),
    option(
        "--decay-all",
        is_flag=True,
        group=TRAINING,
        help="Also decay biases, norms and embeddings, as published.",
    ),
    option(
        "--max-grad-norm",
        type=shared.Number(min=0),
        default=1.0,
        show_default=True,
        old=["--clip"],
        group=TRAINING,
        help="Clip gradients to this norm; 0: do not clip.",
    ),
    option(
        "--micro-batches",
        type=shared.COUNT,
        default=1,
        show_default=True,
        old=["--accumulate"],
        group=TRAINING,
        help="Split each batch into N parts to save memory (gradient caching).",
    ),
    option(
        "--ema-decay",
        type=shared.OPEN_SHARE,
        old=["--ema"],
        group=TRAINING,
        help="Validate and save a running mean of weights, such as 0.999.",
    ),
    option(
        "--patience",
        type=shared.COUNT,
        group=TRAINING,
        help="Stop after N validations without improvement.",
    ),
    option(
        "--augment",
        type=click.Choice(["none", "mild", "rotate", "jitter", "crop", "window", "strong"]),
        default="mild",
        show_default=True,
        group=DATA,
        help="Image augmentation; jitter, rotate: AGP's; crop: TransVG's; window: ASG's.",
    ),
    option(
        "--hflip-prob",
        type=shared.SHARE,
        default=0.0,
        show_default=True,
        old=["--mirror"],
        group=DATA,
        help="Probability of a horizontal flip; the text is not changed.",
    ),
    option(
        "--log-every",
        type=shared.COUNT,
        default=20,
        show_default=True,
        help="Steps between lines of metrics.jsonl.",
    ),
    option(
        "--tracker",
        type=click.Choice(list(TRACKERS)),
        help="Also write losses for this tracker, offline.",
    ),
    option("--compile", is_flag=True, help="Use torch.compile (start-up takes minutes)."),
    option(
        "--precision",
        type=click.Choice(["no", "bf16", "fp16"]),
        default="no",
        show_default=True,
        help="no: float32; bf16: for GPUs, and CPUs with AMX; fp16: for GPUs.",
    ),
    option(
        "--loader-threads",
        type=shared.THREADS,
        default=1,
        show_default=True,
        old=["--workers"],
        help="Threads that prepare batches; results do not depend on it.",
    ),
    option(
        "--record/--no-record",
        default=True,
        show_default=True,
        group=DATA,
        help="Record keyed hashes of training subjects in the model.",
    ),
    shared.device,
    shared.seed,
    shared.overwrite,
]


def options(*, steps: int, batch_size: int, lr: float, save_every: int) -> Callable[[Any], Any]:
    """Return a decorator that adds the options of a training command, with these defaults."""
    own = [
        option(
            "--steps",
            type=shared.COUNT,
            default=steps,
            show_default=True,
            group=TRAINING,
            help="Training steps.",
        ),
        option(
            "--batch-size",
            type=shared.COUNT,
            default=batch_size,
            show_default=True,
            old=["--batch"],
            group=TRAINING,
            help="Images per step.",
        ),
        option(
            "--lr",
            type=shared.POSITIVE,
            default=lr,
            show_default=True,
            old=["--rate"],
            group=TRAINING,
            help="Peak learning rate.",
        ),
        option(
            "--save-every",
            type=shared.COUNT,
            default=save_every,
            show_default=True,
            help="Steps between checkpoints, and between validations.",
        ),
    ]
    return shared.with_all(own + _SAME_FOR_ALL)
