"""medground phantom: a synthetic cohort with exact truth, in the published layouts."""

from pathlib import Path

import click

from medground.cli import options


@click.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option("--patients", type=options.COUNT, default=500, show_default=True, help="How many.")
@click.option(
    "--size", type=click.IntRange(min=64, max=4096), default=256, show_default=True, help="Long side, pixels."
)
@click.option(
    "--laterals",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Share of patients with a lateral film too.",
)
@options.seed
@options.workers
@options.config
def phantom(out: Path, patients: int, size: int, laterals: float, seed: int, workers: int) -> None:
    """Render chest films with reports, region boxes and finding boxes under OUT.

    OUT gets mimic-cxr, mimic-cxr-jpg, chest-imagenome and ms-cxr as their publishers lay them out, and
    truth/ with all that is known. The same settings give the same bytes for any number of workers.

    \b
        $ medground phantom demo --patients 200 --size 256 --workers 2
    """
    from medground.phantom.layout import Settings, write_cohort

    write_cohort(out, Settings(patients, seed, size, laterals), workers)
