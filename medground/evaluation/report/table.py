"""Scores as a table for people; the only module that imports rich."""

from collections.abc import Iterable, Sequence
from typing import TextIO

from medground.errors import printable
from medground.evaluation.stats.scoring import BESIDE, DERIVED
from medground.records import Score

GRID = "probes"  # the protocol whose metrics are shown side by side
GRID_METRICS = ("miou", "prior_miou", "same", "same_mirrored", "changed_side", "absent")
WITH_INTERVAL = ("", *DERIVED.values())


def percent(score: Score | None) -> str:
    """Return `61.2 (57.9–64.4)`: the figure and its interval in points of 100; a dash without a score."""
    if score is None or score.value is None:
        return "–"
    low, high = (None if bound is None else points(bound, score.metric) for bound in (score.low, score.high))
    dash = "–" if (score.low or 0) >= 0 else " to "  # a dash next to a minus sign misleads
    return points(score.value, score.metric) + (f" ({low}{dash}{high})" if low and high else "")


def points(value: float, metric: str) -> str:
    """Return a share in points of 100, with one digit and a true minus sign.

    A ratio is returned unchanged, with two digits.
    """
    shown = f"{value:.2f}" if scale_of(metric) == 1 else f"{100 * value:.1f}"
    return shown.replace("-", "−")


def scale_of(metric: str) -> int:
    """Return 100 for shares, which are shown in points of 100; 1 for the contrast-to-noise ratio."""
    return 1 if metric.endswith("cnr") else 100


def by_group(scores: Iterable[Score]) -> dict[str, dict[str, Score]]:
    """Return group -> metric -> score, in the order of the scores."""
    found: dict[str, dict[str, Score]] = {}
    for score in scores:
        found.setdefault(score.group, {})[score.metric] = score
    return found


def show(scores: Sequence[Score], stream: TextIO) -> None:
    """Print a table per protocol and metric: one row per group, with the baseline and the other model."""
    for protocol in dict.fromkeys(score.protocol for score in scores):
        own = [score for score in scores if score.protocol == protocol]
        if protocol == GRID:
            print_rows(f"{protocol} in points of 100, with 95 % intervals over patients", *grid(own), stream)
            continue
        for metric in dict.fromkeys(score.metric for score in own if not score.metric.startswith(BESIDE)):
            _show(protocol, metric, own, stream)


def _show(protocol: str, metric: str, scores: Sequence[Score], stream: TextIO) -> None:
    names = {score.metric for score in scores}
    columns = [prefix for prefix in ("", *BESIDE) if prefix + metric in names]
    rows = [
        [group, str(found[metric].n), *(cell(found.get(prefix + metric), prefix) for prefix in columns)]
        for group, found in by_group(scores).items()
        if metric in found
    ]
    heads = ["group", "n", *(prefix.rstrip("_") or metric for prefix in columns)]
    unit = " in points of 100" if scale_of(metric) == 100 else ""
    print_rows(f"{protocol}: {metric}{unit}, with 95 % intervals over patients", heads, rows, stream)


def grid(scores: Sequence[Score]) -> tuple[list[str], list[list[str]]]:
    """Return (headings, rows): all metrics in one table, one row per group, without gains."""
    there = {score.metric for score in scores}
    metrics = [name for name in GRID_METRICS if name in there]
    rows = [
        [
            group.partition(":")[2],
            str(next(iter(found.values())).n),
            *(_of_grid(found.get(m)) for m in metrics),
        ]
        for group, found in by_group(scores).items()
    ]
    return ["probe", "n", *metrics], rows


def _of_grid(score: Score | None) -> str:
    return cell(score, "prior_" if score and score.metric.startswith("prior_") else "")


def cell(score: Score | None, prefix: str) -> str:
    """Return the cell of a figure that `scoring` derived from a metric under this prefix."""
    if score is None or score.value is None or prefix not in WITH_INTERVAL:
        return "–" if score is None or score.value is None else points(score.value, score.metric)
    p = score.extra.get("p")
    return percent(score) + (f" p={p:.2g}" if p is not None else "")


def print_rows(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], stream: TextIO) -> None:
    """Print a table with its first column left-aligned and the others right-aligned.

    Without a terminal it is as wide as it needs.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(Text(printable(each)) for each in row))  # text is shown, never read as markup
    Console(file=stream, highlight=False, width=None if stream.isatty() else 200).print(table)
