"""Findings of tools/fuzz, and its examples, as ordinary tests. Each ends with records or one message."""

import pytest
from paths import ROOT
from tool_runs import tool

FUZZ = tool("fuzz_targets.py")
SEEDS = ROOT / "tests" / "attack" / "seeds"
FOUND = sorted(path for path in SEEDS.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", FUZZ.TARGETS)
def test_examples_of_a_target_are_read(name):
    assert FUZZ.EXAMPLES[name]
    for data in FUZZ.EXAMPLES[name]:
        FUZZ.run(name, data)
        for cut in (1, len(data) // 2, len(data) - 1):
            FUZZ.run(name, data[:cut])


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name[:20]}")
def test_a_finding_is_mended(path):
    FUZZ.run(path.parent.name, path.read_bytes())
