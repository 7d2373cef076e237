"""medground doctor: what is installed, what is broken, how to mend it."""

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line instead of a table.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Say what is installed, what is broken and how to mend it.

    Tries torch, transformers, spaCy and torchvision in processes of their own, which takes some seconds.
    Exits with 0 when all that medground needs works, with 1 when something needed is missing or broken.

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
