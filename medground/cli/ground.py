"""medground ground: being written."""

import click


@click.command()
def ground() -> None:
    """Being written."""
    raise NotImplementedError
