"""medground doctor: check the installation."""

import click

from medground.cli.command import command, option


@command()
@option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check the installation: what is installed, what is broken and how to fix it.

    Imports torch, transformers, spaCy and torchvision in separate processes, which takes some seconds. Exits
    with 0 if all requirements work, and with 1 if one is missing or broken.

    \b
        $ medground doctor
        ok      python           3.11.2         /usr/bin/python3
        ...
    """
    import json

    from medground.cli.installation import examine, is_well

    checks = examine()
    for check in checks:
        click.echo(json.dumps(check.json()) if as_json else check.line())
    ctx.exit(0 if is_well(checks) else 1)
