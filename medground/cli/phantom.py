"""medground phantom: being written."""

import click


@click.command()
def phantom() -> None:
    """Being written."""
    raise NotImplementedError
