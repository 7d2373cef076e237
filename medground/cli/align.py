"""medground align: being written."""

import click


@click.command()
def align() -> None:
    """Being written."""
    raise NotImplementedError
