"""The rules of the tests: shared code is in tests/support, and no test file imports another."""

import ast
from pathlib import Path

from paths import ROOT
from source_trees import nodes

TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


def imported(path: Path) -> set[str]:
    """Return the first word of each module that a file imports."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_no_test_file_imports_another():
    others = {"conftest", *(each.stem for each in TESTS)}
    found = {path: imported(path) & others for path in TESTS}
    assert {str(path.relative_to(ROOT)): names for path, names in found.items() if names} == {}


def test_no_two_test_files_have_one_name():
    names = [path.name for path in TESTS]
    assert sorted(set(names)) == sorted(names)
