"""medground doctor: check the installation."""

import click

from medground.cli.command import command, option


@command()
@option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check the installation: packages, the imports of each command, and how to fix what is broken.

    Imports all that the commands import, in a separate process, with the import path of a command (PYTHONPATH
    included). This takes some seconds. A command needs no extra: extras are for DICOM, YOLO, export and
    TensorBoard. Exits with 0 if all commands work, and with 1 otherwise.

    \b
        $ medground doctor
        ok      python           3.11.2         /usr/bin/python3
        ...
    """
    import json

    from medground.cli import installation
    from medground.cli.main import cli

    checks = installation.with_device(installation.examine(cli))
    for check in checks:
        click.echo(json.dumps(check.json()) if as_json else check.line())
    ctx.exit(0 if installation.is_well(checks) else 1)
