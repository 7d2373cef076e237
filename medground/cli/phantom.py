"""medground phantom: a synthetic cohort with exact truth, in the published layouts."""

from pathlib import Path

import click

from medground.cli import options
from medground.cli.command import DATA, command, option


@command()
@click.argument("out", type=options.OutputFolder())
@option(
    "--patients",
    type=options.COUNT,
    default=500,
    show_default=True,
    group=DATA,
    help="Number of patients.",
)
@option(
    "--image-size",
    type=options.Integer(min=64, max=4096),
    default=256,
    show_default=True,
    old=["--size"],
    group=DATA,
    help="Long side of the images in pixels.",
)
@option(
    "--lateral-fraction",
    type=options.SHARE,
    default=0.05,
    show_default=True,
    old=["--laterals"],
    group=DATA,
    help="Share of patients with an additional lateral image.",
)
@options.seed
@options.workers
@options.config
def phantom(
    out: Path, patients: int, image_size: int, lateral_fraction: float, seed: int, workers: int
) -> None:
    """Render synthetic chest X-rays with reports, region boxes and finding boxes under OUT.

    Writes mimic-cxr, mimic-cxr-jpg, chest-imagenome and ms-cxr in the layouts of their publishers, and
    truth/ with the complete ground truth. The output does not depend on --workers.

    \b
        $ medground phantom demo --patients 200 --image-size 256 --workers 2
    """
    from medground.phantom.layout import Settings, write_cohort

    write_cohort(out, Settings(patients, seed, image_size, lateral_fraction), workers)
