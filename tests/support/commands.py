"""All commands of medground, for tests that hold for each of them."""

from collections.abc import Iterator

import click

from medground.cli.main import cli


def every_command(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words that call each command, groups and their subcommands."""
    for name, command in group.commands.items():
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))


def command_of(path: tuple[str, ...]) -> click.Command:
    """Return the command that these words call."""
    command: click.Command = cli
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    return command


COMMANDS = list(every_command())
"""The words that call each command: ("align",), ("convert", "ms-cxr"), ..."""
IDS = [" ".join(path) for path in COMMANDS]
