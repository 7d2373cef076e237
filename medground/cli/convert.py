"""medground convert: being written."""

import click


@click.command()
def convert() -> None:
    """Being written."""
    raise NotImplementedError
