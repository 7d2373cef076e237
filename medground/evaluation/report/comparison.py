"""The comparison of several models as one table in Markdown, LaTeX or HTML.

A row is a model. A column is a metric of one protocol and group, with the difference to the reference after
it. The best figure of a column is bold.
"""

import html
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from medground.evaluation.comparison import DIFFERENCE
from medground.evaluation.report import table
from medground.evaluation.stats.scoring import BESIDE
from medground.records import Score

GROUPS = ("all", "macro")  # of a table, if no others are chosen
STYLE = """
body { font: 15px sans-serif; margin: 2em }
table { border-collapse: collapse }
tr { border-bottom: 1px solid #ccc }
td, th { padding: .3em .8em; text-align: right }
td:first-child, th:first-child { text-align: left }
"""
Key = tuple[str, str, str]  # protocol, metric, group


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure or a difference as text; `best` marks the largest figure of its column."""

    text: str
    best: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """The headings, the rows of cells under each model's name, and the notes under the table."""

    headings: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]
    notes: Sequence[str]


def of(scores: Sequence[Score], groups: Sequence[str] = GROUPS) -> Comparison:
    """Return the table of the scores of these groups."""
    by_name: dict[str, dict[Key, Score]] = {}
    for each in scores:
        by_name.setdefault(each.extra["name"], {})[each.protocol, each.metric, each.group] = each
    keys = list(
        dict.fromkeys(
            (each.protocol, each.metric, each.group)
            for each in scores
            if each.group in groups and not each.metric.startswith(BESIDE)
        )
    )
    base = next((each.extra["reference"] for each in scores if "reference" in each.extra), "")
    best = {key: _largest(found.get(key) for found in by_name.values()) for key in keys}
    rows = [
        (name, [cell for key in keys for cell in _cells(found, key, best[key])])
        for name, found in by_name.items()
    ]
    headings = [text for key in keys for text in (_heading(*key), "difference")]
    return Comparison(headings, rows, _notes(scores, base))


def _cells(found: dict[Key, Score], key: Key, best: float | None) -> Iterable[Cell]:
    protocol, metric, group = key
    score = found.get(key)
    yield Cell(table.percent(score), bool(score and score.value is not None and score.value == best))
    difference = found.get((protocol, DIFFERENCE + metric, group))
    if difference is None:
        yield Cell("")
        return
    p = difference.extra.get("p_holm")
    yield Cell(table.percent(difference) + (f" p={p:.2g}" if p is not None else ""))


def _largest(scores: Iterable[Score | None]) -> float | None:
    return max((each.value for each in scores if each and each.value is not None), default=None)


def _heading(protocol: str, metric: str, group: str) -> str:
    return f"{protocol} {metric}" + ("" if group == "all" else f", {group}")


def _notes(scores: Sequence[Score], base: str) -> list[str]:
    of_all = {each.protocol: each.n for each in scores if each.group == "all"}
    counts = ", ".join(f"{protocol} {n}" for protocol, n in of_all.items())
    return [
        "Shares in points of 100, with 95 % intervals over draws of patients.",
        f"Differences are paired with {base}. Their p is corrected for the number of models (Holm).",
        "It is not corrected for the number of metrics and groups.",
        f"Scored phrases: {counts}.",
        *(["Some training patients are in the test set: see the key leakage."] if _leaks(scores) else []),
    ]


def _leaks(scores: Iterable[Score]) -> bool:
    return any(each.extra.get("leakage") for each in scores)


def markdown(found: Comparison) -> str:
    """Return the table in GitHub's Markdown."""
    lines = [("model", *found.headings), ("---", *("--:" for _ in found.headings))]
    shown = [tuple(map(_markdown, line)) for line in lines[:1]] + lines[1:]
    for name, cells in found.rows:
        shown.append((_markdown(name), *(_marked(cell, "**{}**", _markdown) for cell in cells)))
    body = "".join(f"| {' | '.join(line)} |\n" for line in shown)
    return body + "\n" + "\n".join(map(_markdown, found.notes)) + "\n"


def latex(found: Comparison) -> str:
    r"""Return the table as LaTeX for the package booktabs."""
    ends = [r"\begin{tabular}{l" + "r" * len(found.headings) + "}", r"\toprule"]
    heads = " & ".join(["model", *map(_latex, found.headings)]) + r" \\"
    body = [
        " & ".join([_latex(name), *(_marked(cell, r"\textbf{{{}}}", _latex) for cell in cells)]) + r" \\"
        for name, cells in found.rows
    ]
    notes = [f"% {' '.join(note.split())}" for note in found.notes]
    return "\n".join([*ends, heads, r"\midrule", *body, r"\bottomrule", r"\end{tabular}", *notes]) + "\n"


def page(found: Comparison) -> str:
    """Return one HTML file with the table; it loads nothing."""
    heads = "".join(f"<th>{html.escape(each)}</th>" for each in ("model", *found.headings))
    body = "".join(
        f"<tr><td>{html.escape(name)}</td>"
        + "".join(f"<td>{_marked(cell, '<b>{}</b>', html.escape)}</td>" for cell in cells)
        + "</tr>\n"
        for name, cells in found.rows
    )
    notes = "".join(f"<p>{html.escape(note)}</p>\n" for note in found.notes)
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>Comparison</title>'
        f"<style>{STYLE}</style></head>\n<body>\n<h1>Comparison</h1>\n"
        f"<table>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n{notes}</body>\n</html>\n"
    )


def _marked(cell: Cell, mark: str, escaped: Callable[[str], str]) -> str:
    text = escaped(cell.text)
    return mark.format(text) if cell.best else text


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", " ".join(text.split()))


def _latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {each: "\\" + each for each in "&%$#_{}"} | {"−": "$-$", "–": "--"}
    return "".join(special.get(each, each) for each in " ".join(text.split()))


FORMATS: dict[str, Callable[[Comparison], str]] = {"markdown": markdown, "latex": latex, "html": page}
