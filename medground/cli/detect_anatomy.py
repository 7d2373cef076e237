"""medground detect-anatomy: being written."""

import click


@click.command()
def detect_anatomy() -> None:
    """Being written."""
    raise NotImplementedError
