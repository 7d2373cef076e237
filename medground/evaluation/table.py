"""Scores as a table for people; the only module that imports rich."""

from collections.abc import Iterable, Sequence
from typing import TextIO

from medground.records import Score


def percent(score: Score | None) -> str:
    """`61.2 (57.9-64.4)`: the figure and its interval in points of 100; a dash where there is none."""
    if score is None or score.value is None:
        return "–"
    interval = "" if score.low is None or score.high is None else f" ({bound(score.low)}–{bound(score.high)})"
    return bound(score.value) + interval


def bound(value: float) -> str:
    """A share in points of 100, with one digit and a true minus sign."""
    return f"{100 * value:.1f}".replace("-", "−")


def by_group(scores: Iterable[Score]) -> dict[str, dict[str, Score]]:
    """group -> metric -> score, in the order of the scores."""
    found: dict[str, dict[str, Score]] = {}
    for score in scores:
        found.setdefault(score.group, {})[score.metric] = score
    return found


def show(scores: Sequence[Score], stream: TextIO) -> None:
    """Print one table for each protocol: a row a group, a column a metric."""
    for protocol in dict.fromkeys(score.protocol for score in scores):
        _show(protocol, [score for score in scores if score.protocol == protocol], stream)


def _show(protocol: str, scores: Sequence[Score], stream: TextIO) -> None:
    metrics = list(dict.fromkeys(score.metric for score in scores))
    rows = [
        [group, str(max(score.n for score in found.values())), *(_cell(found.get(name)) for name in metrics)]
        for group, found in by_group(scores).items()
    ]
    print_rows(f"{protocol} (95 % intervals over patients)", ["group", "n", *metrics], rows, stream)


def _cell(score: Score | None) -> str:
    p = score.extra.get("p") if score else None
    return percent(score) + (f" p={p:.2g}" if p is not None else "")


def print_rows(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], stream: TextIO) -> None:
    """Print a table, its first column left and the others right; as wide as it needs where no terminal is."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for number, name in enumerate(columns):
        table.add_column(name.replace("_", " "), justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console = Console(file=stream)
    console.print(table, width=None if console.is_terminal else 1000, no_wrap=not console.is_terminal)
