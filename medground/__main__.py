"""`python -m medground` and the `medground` program."""

from medground.cli import messages
from medground.cli.main import cli


def main() -> None:
    """Run the command line. The program name is fixed, so that help and errors are the same for both entry
    points.
    """
    messages.hide_values_of_crashes()
    cli(prog_name="medground")


if __name__ == "__main__":
    main()
