"""One self-contained HTML file with scores and pictures: no script, no font, no network.

It shows images and text of reports, so the same data use agreement applies to it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medground import output_files
from medground.evaluation.report import table
from medground.evaluation.report.pictures import Gallery
from medground.evaluation.stats.scoring import BESIDE
from medground.figures import pages
from medground.records import Score

if TYPE_CHECKING:
    from medground.evaluation.front import Scores


@dataclass(frozen=True, slots=True)
class Mark:
    """One figure in points of 100, with its interval if it has one; `series` is its color."""

    series: int
    text: str
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """One group: a mark for each model, the baseline's figure on the same scale, and the cells of `more`.

    `more` has a text per model for each further column.
    """

    name: str
    n: int
    marks: Sequence[Mark]
    prior: float | None
    more: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Chart:
    """A table whose figures are drawn as dots with intervals; `columns` are the headings of `more`.

    `scale` has the points at the left and right end.
    """

    title: str
    series: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[Row]
    head: str = "group"
    scale: tuple[float, float] = (0, 100)

    @property
    def ticks(self) -> list[float]:
        """Five points at even distances along the scale."""
        low, high = self.scale
        return [low + (high - low) * step / 4 for step in range(5)]

    def at(self, points: float) -> float:
        """Return the place of a figure on the scale, in percent of its length, clipped to its ends."""
        low, high = self.scale
        return round(min(100.0, max(0.0, 100 * (points - low) / (high - low))), 2)

    @property
    def has_prior(self) -> bool:
        """True if the legend must explain a baseline."""
        return any(row.prior is not None for row in self.rows)


@dataclass(frozen=True, slots=True)
class Page:
    """The content of the template, from top to bottom."""

    title: str
    lead: str
    facts: Sequence[tuple[str, str]]
    charts: Sequence[Chart]
    galleries: Sequence[Gallery]


def save(path: Path | str, page: Page) -> None:
    """Write the page; the file at `path` appears only when it is complete."""
    with output_files.create(str(path)) as stream:
        stream.write(pages.render("medground.evaluation", "page.html", page=page))


def chart(
    title: str, metric: str, models: Mapping[str, Sequence[Score]], beside: Sequence[str] = BESIDE
) -> Chart:
    """Return the metric for each group of the first model.

    The other models' figures and the further columns are added to the rows of these groups.
    """
    tables = [table.by_group(scores) for scores in models.values()]
    metrics = {score.metric for scores in models.values() for score in scores}
    more = [prefix for prefix in beside if prefix + metric in metrics]
    rows = []
    for group, found in ((name, scores) for name, scores in tables[0].items() if metric in scores):
        each = [one.get(group, {}) for one in tables]
        prior = found.get(f"prior_{metric}")
        at = _points(prior.value if prior else None, metric)
        marks = [mark(number, one.get(metric)) for number, one in enumerate(each)]
        texts = [[table.cell(one.get(prefix + metric), prefix) for one in each] for prefix in more]
        rows.append(Row(group, found[metric].n, marks, at, texts))
    highest = max((mark.high or mark.value or 0 for row in rows for mark in row.marks), default=0)
    scale = (0, 100) if table.scale_of(metric) == 100 else (0, max(2, -(-highest // 2) * 2))
    return Chart(title, list(models), [prefix.rstrip("_") for prefix in more], rows, scale=scale)


def grid(scores: Sequence[Score]) -> Chart:
    """Return all metrics of the probes: the first drawn with its intervals, the others as further columns."""
    heads, _ = table.grid(scores)
    first, *others = heads[2:]
    rows = []
    for group, found in table.by_group(scores).items():
        prior = found.get(f"prior_{first}")
        at = _points(prior.value, first) if prior else None
        more = [[table.cell(found.get(metric), "prior_")] for metric in others]  # without intervals
        name, n = group.partition(":")[2], next(iter(found.values())).n
        rows.append(Row(name, n, [mark(0, found.get(first))], at, more))
    return Chart("probes: IoU with the truth", ["model"], others, rows, head="probe")


def mark(series: int, score: Score | None) -> Mark:
    """Return the score as a mark in the color of its series; a dash without a score."""
    if score is None:
        return Mark(series, table.percent(None), None, None, None)
    value, low, high = (_points(each, score.metric) for each in (score.value, score.low, score.high))
    return Mark(series, table.percent(score), value, low, high)


def _points(value: float | None, metric: str) -> float | None:
    return None if value is None else round(table.scale_of(metric) * value, 2)


def facts(score: Score) -> list[tuple[str, str]]:
    """Return the origin of a score, in the order of its keys."""
    return [(name, str(value)) for name, value in score.extra.items() if name != "p"]


def write(path: Path, scores: "Scores", folder: Path) -> None:
    """Write the page of an evaluation: its scores by protocol, then its pictures."""
    charts = []
    for protocol in dict.fromkeys(score.protocol for score in scores):
        own = [score for score in scores if score.protocol == protocol]
        if protocol == table.GRID:
            charts.append(grid(own))
            continue
        for metric in dict.fromkeys(s.metric for s in own if not s.metric.startswith(BESIDE)):
            charts.append(chart(f"{protocol}: {metric}", metric, {"model": own}))
    lead = "Figures in points of 100, with 95 % intervals over patients."
    origin = facts(scores[0]) if scores else []
    save(path, Page("Grounding scores", lead, origin, charts, scores.galleries(folder)))
