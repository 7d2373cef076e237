"""medground parse-reports: being written."""

import click


@click.command()
def parse_reports() -> None:
    """Being written."""
    raise NotImplementedError
