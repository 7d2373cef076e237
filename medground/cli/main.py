"""The group of all commands, and the only place where errors become messages."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

import medground
from medground import limits
from medground.cli import messages
from medground.cli.align import align
from medground.cli.answer import answer
from medground.cli.cache import cache
from medground.cli.calibrate import calibrate
from medground.cli.command import Group
from medground.cli.compare import compare
from medground.cli.convert import convert
from medground.cli.detect_anatomy import detect_anatomy
from medground.cli.doctor import doctor
from medground.cli.evaluate import evaluate
from medground.cli.export import export
from medground.cli.finetune import finetune
from medground.cli.ground import ground
from medground.cli.join_shards import join_shards
from medground.cli.parse_reports import parse_reports
from medground.cli.phantom import phantom
from medground.cli.pretrain import pretrain
from medground.cli.probe import probe
from medground.cli.render import render
from medground.cli.segment import segment
from medground.cli.train_detector import train_detector
from medground.cli.write import write
from medground.errors import MedgroundError, printable


class Toolbox(Group):
    """The group of all commands: it shows errors that users can fix as one line, others with a traceback."""

    def make_context(self, *args: Any, **attrs: Any) -> click.Context:
        """Configure messages on stderr before -v and -q change their level."""
        messages.configure()
        with _as_messages():
            limits.factor()
            return super().make_context(*args, **attrs)

    def invoke(self, ctx: click.Context) -> object:
        with _as_messages():
            return super().invoke(ctx)


@contextmanager
def _as_messages() -> Iterator[None]:
    """Turn errors that users can fix into click's, whose messages stay on one line."""
    try:
        yield
    except (MedgroundError, OSError) as error:
        if getattr(error, "errno", None) == errno.EPIPE:
            raise  # the reader of our output has exited (| head): click ends quietly
        logging.getLogger(__name__).debug("traceback:", exc_info=True)
        raise click.ClickException(_one_line(error)) from error
    except click.ClickException as error:
        vars(error)["message"] = printable(error.message)
        raise


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError):  # the text of some, such as BadGzipFile, quotes the file
        place = f"{error.filename}: " if error.filename else ""
        problem = error.strerror or f"cannot be read or written ({type(error).__name__})"
        return printable(f"{place}{problem}")
    return printable(" ".join(str(error).split()))


SECTIONS = {  # in the order of the pipeline
    "Reports and anatomy": (parse_reports, train_detector, detect_anatomy, align),
    "Training": (cache, pretrain, finetune, calibrate, export),
    "Grounding and scoring": (ground, render, evaluate, compare),
    "Downstream tasks": (probe, segment, write, answer),
    "Data": (convert, phantom, join_shards),
    "Installation": (doctor,),
}


@click.group(cls=Toolbox, sections=SECTIONS)
@click.version_option(medground.__version__)
def cli() -> None:
    """Localize report phrases on chest X-rays, and train models that do.

    Commands read and write JSON lines; without a FILE, or with -, they read stdin.
    Exit codes: 0 done, 1 invalid input or disk error, 2 usage error, 75 stopped on request after saving (run
    the same command again to continue).
    """
