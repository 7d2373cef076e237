"""The page docs/recipes.md: published settings and ours, from medground/configs and docs/recipes.toml."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from medground.cli import config

LINE = re.compile(r"^(?P<key>[\w-]+) = (?P<value>.*?)\s+# (?P<source>paper|code|ours)(?P<note>.*)$")
INTRO = """A recipe has the settings of one publication: `--config NAME`. Its lines are listed below. Each
has its source: the paper, the authors' public code, or our choice. `mdetr` is ours and is not listed.

    medground finetune ms_cxr.jsonl --images images --config transvg -o runs/transvg

A test (`tests/models/test_conversion.py`) compares converted networks with their published definitions.
Outputs and losses of small networks are equal to 1e-5. No published weights were available here.
"""


def page(notes: Path) -> str:
    """Return the text of the page; `notes` is docs/recipes.toml."""
    held = tomllib.loads(notes.read_text(encoding="utf-8"))
    columns = ["topic", "paper", "code", "ours", "switch"]
    parts = [INTRO, "## Where they differ\n", *_table(columns, held["row"])]
    if held.get("memory"):
        parts += ["## Memory\n", held["memory_note"], *_table(["recipe", "setting", "GiB"], held["memory"])]
    for name in config.recipes():
        if rows := list(settings(config.find(name))):
            parts += [f"## {name}\n", *_table(["setting", "value", "source"], rows)]
    return "\n".join(parts)


def settings(path: Path) -> Iterator[dict[str, str]]:
    """Yield the setting, value and source of each line of a config that states its source."""
    table = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            table = f" ({line.strip('[]')})"
        elif found := LINE.match(line):
            source = f"{found['source']}{found['note']}".strip()
            yield {"setting": f"`{found['key']}`{table}", "value": f"`{found['value']}`", "source": source}


def _table(columns: list[str], rows: list[dict[str, str]]) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(str(row[each]) for each in columns)} |" for row in rows]
    return [*lines, ""]
