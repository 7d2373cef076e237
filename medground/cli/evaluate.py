"""medground evaluate: being written."""

import click


@click.command()
def evaluate() -> None:
    """Being written."""
    raise NotImplementedError
