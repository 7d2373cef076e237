"""medground finetune: being written."""

import click


@click.command()
def finetune() -> None:
    """Being written."""
    raise NotImplementedError
