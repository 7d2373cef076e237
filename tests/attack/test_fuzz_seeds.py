"""Findings of tools/fuzz, and its examples, as ordinary tests. Each ends with records or one message."""

import fuzz_pictures  # noqa: F401 - registers its targets
import fuzz_texts  # noqa: F401
import pytest
from fuzz_registry import EXAMPLES, TARGETS, run
from paths import ROOT

SEEDS = ROOT / "tests" / "attack" / "seeds"
FOUND = sorted(path for path in SEEDS.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", TARGETS)
def test_examples_of_a_target_are_read(name):
    assert EXAMPLES[name]
    for data in EXAMPLES[name]:
        run(name, data)
        for cut in (1, len(data) // 2, len(data) - 1):
            run(name, data[:cut])


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name[:20]}")
def test_a_finding_is_mended(path):
    run(path.parent.name, path.read_bytes())
