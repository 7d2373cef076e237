"""medground doctor: being written."""

import click


@click.command()
def doctor() -> None:
    """Being written."""
    raise NotImplementedError
