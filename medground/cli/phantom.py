"""medground phantom: a synthetic cohort with exact truth, in the published layouts."""

from pathlib import Path

import click

from medground.cli import options
from medground.cli.command import DATA, command, option

LAYOUTS = ("nih", "siim", "rsna", "vqa-rad", "iu-xray")


def _layouts(ctx: click.Context, option: click.Parameter, given: str | None) -> tuple[str, ...]:
    """Return the names of a list with commas, in one order; raise BadParameter for others."""
    names = {each.strip() for each in (given or "").split(",")} - {""}
    if unknown := sorted(names - set(LAYOUTS)):
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(LAYOUTS)}")
    return tuple(name for name in LAYOUTS if name in names)


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
@option(
    "--layouts",
    callback=_layouts,
    metavar="NAME,...",
    group=DATA,
    help="Also label files of nih, siim, rsna, vqa-rad and iu-xray.",
)
@options.seed
@options.workers
@options.config
def phantom(
    out: Path,
    patients: int,
    image_size: int,
    lateral_fraction: float,
    layouts: tuple[str, ...],
    seed: int,
    workers: int,
) -> None:
    """Render synthetic chest X-rays with reports, region boxes and finding boxes under OUT.

    Writes mimic-cxr, mimic-cxr-jpg, chest-imagenome and ms-cxr in the layouts of their publishers, and
    truth/ with the complete ground truth. The output does not depend on --workers. With --layouts, layouts/
    holds square images and label files of downstream data sets, which convert reads.

    \b
        $ medground phantom demo --patients 200 --image-size 256 --workers 2
        $ medground phantom tasks --layouts nih,siim,rsna,vqa-rad,iu-xray
    """
    from medground.phantom.layout import Settings, write_cohort

    write_cohort(out, Settings(patients, seed, image_size, lateral_fraction, layouts=layouts), workers)
