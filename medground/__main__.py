"""`python -m medground` and the `medground` program."""

from medground.cli.main import cli


def main() -> None:
    """Run the command line; the name is fixed so that help and errors read alike for both ways in."""
    cli(prog_name="medground")


if __name__ == "__main__":
    main()
