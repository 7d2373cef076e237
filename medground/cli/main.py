"""The group of all commands, and the only place where errors become messages."""

import errno
import logging
import sys

import click

import medground
from medground.cli.align import align
from medground.cli.cache import cache
from medground.cli.calibrate import calibrate
from medground.cli.convert import convert
from medground.cli.detect_anatomy import detect_anatomy
from medground.cli.doctor import doctor
from medground.cli.evaluate import evaluate
from medground.cli.export import export
from medground.cli.finetune import finetune
from medground.cli.ground import ground
from medground.cli.parse_reports import parse_reports
from medground.cli.phantom import phantom
from medground.cli.pretrain import pretrain
from medground.cli.train_detector import train_detector
from medground.errors import MedgroundError


class Toolbox(click.Group):
    """Shows failures that a user can mend as one line; all others keep their traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (MedgroundError, OSError) as error:
            if getattr(error, "errno", None) == errno.EPIPE:
                raise  # whoever read our output has left (| head): click ends quietly
            logging.getLogger(__name__).debug("where it failed:", exc_info=True)
            raise click.ClickException(_one_line(error)) from error


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror}"
    return " ".join(str(error).split())


@click.group(cls=Toolbox)
@click.option("-v", "--verbose", count=True, help="Say more on stderr; -vv shows tracebacks.")
@click.version_option(medground.__version__)
def cli(verbose: int) -> None:
    """Find where in a chest X-ray the words of its report point.

    Filters read and write JSON lines; without a FILE, or with -, they read stdin.
    Exit codes: 0 done, 1 the input or the disk is at fault, 2 the command line is at fault,
    75 stopped on request after saving (run the same command again to go on).
    """
    level = max(logging.DEBUG, logging.WARNING - 10 * verbose)
    logging.basicConfig(stream=sys.stderr, level=level, format="%(levelname)s: %(message)s", force=True)


for command in (
    parse_reports,
    detect_anatomy,
    align,
    cache,
    pretrain,
    finetune,
    calibrate,
    export,
    ground,
    evaluate,
    train_detector,
    convert,
    phantom,
    doctor,
):
    cli.add_command(command)
