"""The rules of the tests: what they share lies in tests/support, and no test file imports another."""

import ast

import pytest
from paths import ROOT

TESTS = sorted((ROOT / "tests").rglob("test_*.py"))


def imported(tree: ast.Module) -> set[str]:
    """Return the first word of each module that a file imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_file_imports_another(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not imported(tree) & {"conftest", *(each.stem for each in TESTS)}


def test_no_two_test_files_have_one_name():
    names = [path.name for path in TESTS]
    assert sorted(set(names)) == sorted(names)
