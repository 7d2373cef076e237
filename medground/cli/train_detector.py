"""medground train-detector: being written."""

import click


@click.command()
def train_detector() -> None:
    """Being written."""
    raise NotImplementedError
