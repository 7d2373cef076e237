"""medground pretrain: being written."""

import click


@click.command()
def pretrain() -> None:
    """Being written."""
    raise NotImplementedError
