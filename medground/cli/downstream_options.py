"""Options that the commands of downstream tasks share."""

import click

from medground.cli import options
from medground.cli.command import DATA, MODEL, Option, option

ANY_RUN = ("--device", "--config", "--rejects", "-o")  # options that every run has a use for

encoder = option(
    "--encoder",
    metavar="FOLDER|hub:NAME",
    required=True,
    group=MODEL,
    help="Model folder, folder of export --encoders, or pre-trained image encoder.",
)
image_size = option(
    "--image-size",
    type=options.SIDE,
    group=MODEL,
    help="Side of the images (default: as in training, or 224).",
)
shares = option(
    "--share",
    "shares",
    type=options.Number(0, 1, min_open=True),
    multiple=True,
    default=(1.0,),
    show_default=True,
    group=DATA,
    help="Share of the training patients to use; repeatable.",
)
seeds = option(
    "--seeds",
    type=options.COUNT,
    default=1,
    show_default=True,
    group=DATA,
    help="Number of runs: seeds 0 to N - 1.",
)
allow_leakage = option(
    "--allow-leakage", is_flag=True, group=DATA, help="Accept patients in two splits; marks each prediction."
)


def refuse_others(flag: str, *used: str) -> None:
    """Raise UsageError for an option, given here or in --config, that a run with `flag` has no use for."""
    kept = {flag, *used, *ANY_RUN}
    for each in click.get_current_context().command.params:
        other = isinstance(each, Option) and each.expose_value and kept.isdisjoint(each.opts)
        if other and options.is_given(str(each.name)):
            raise click.UsageError(f"{each.opts[-1]}: not with {flag}")
