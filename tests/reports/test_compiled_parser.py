"""The parser compiled by mypyc: `MEDGROUND_COMPILE=1 pip install .`."""

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = ("tokens", "matching")
BUILD = "import setup, setuptools; setuptools.setup(ext_modules=setup.extensions({}))"
PARSE = """
import json
from medground import parse
from medground.record_json import to_json
from medground.reports import matching, tokens
found = [to_json(each) for each in parse(json.loads(input()))]
print(json.dumps([tokens.__file__, matching.__file__, found]))
"""
REPORTS = [
    "FINDINGS: Small left effusion; no pneumothorax. The heart isn't enlarged.\nIMPRESSION: ? pneumonia.",
    "Findings: 1. Right basilar opacity, likely atelectasis. 2. 2.5 cm nodule (s) in the left apex - stable.",
    "",
]
setup_spec = importlib.util.spec_from_file_location("medground_setup", ROOT / "setup.py")
setup = importlib.util.module_from_spec(setup_spec)
setup_spec.loader.exec_module(setup)


def parsed(folder):
    """Return (files of the modules, sentences) of a parse in a process with the package of this folder."""
    done = subprocess.run(
        [sys.executable, "-c", PARSE],
        input=json.dumps(REPORTS),
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    *files, found = json.loads(done.stdout)
    return files, found


@pytest.mark.slow
@pytest.mark.timeout(900)  # on a busy machine mypy and a compiler take minutes
def test_compiled_modules_give_the_same_sentences(tmp_path):
    pytest.importorskip("mypyc", reason="mypy, which has mypyc, is not installed")
    if not (shutil.which("cc") or shutil.which("gcc")):
        pytest.skip("no C compiler")
    shutil.copytree(ROOT / "medground", tmp_path / "medground", ignore=shutil.ignore_patterns("weights"))
    shutil.copy(ROOT / "setup.py", tmp_path)
    built = subprocess.run(
        [sys.executable, "-c", BUILD.format(MODULES), "build_ext", "--inplace"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr[-2000:]
    plain, compiled = parsed(ROOT), parsed(tmp_path)
    assert {Path(each).suffix for each in plain[0]} == {".py"}
    assert not {Path(each).suffix for each in compiled[0]} & {".py"}
    assert compiled[1] == plain[1] != []


def test_every_compiled_module_exists():
    known = {each.stem for each in (ROOT / "medground" / "reports").glob("*.py")}
    assert known.issuperset(setup.COMPILED)
    assert all((ROOT / "medground" / f"{each}.py").exists() for each in setup.TYPES)


@pytest.mark.parametrize("module", setup.COMPILED)
def test_no_loop_is_over_a_name_that_its_body_assigns(module):
    """Python takes items of the first value, a compiled loop over a list those of the new one."""
    path = ROOT / "medground" / "reports" / f"{module}.py"
    for loop in [each for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.For)]:
        stored = {
            name.id
            for line in loop.body
            for name in ast.walk(line)
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
        }
        assert not (isinstance(loop.iter, ast.Name) and loop.iter.id in stored), f"line {loop.lineno}"


@pytest.mark.parametrize(
    ("value", "command", "compiled"),
    [
        ("1", "bdist_wheel", True),
        ("1", "egg_info", False),
        ("1", "editable_wheel", False),
        ("0", "bdist_wheel", False),
        ("", "bdist_wheel", False),
    ],
)
def test_only_a_wheel_is_compiled_and_only_on_request(value, command, compiled, monkeypatch):
    given = {}
    monkeypatch.setenv("MEDGROUND_COMPILE", value)
    monkeypatch.setattr(sys, "argv", ["setup.py", command])
    monkeypatch.setattr(setup, "extensions", lambda: ["extension"])
    monkeypatch.setattr(setup, "setup", lambda **options: given.update(options))
    setup.main()
    assert given["ext_modules"] == (["extension"] if compiled else [])
    assert bool(given["setup_requires"]) == (value == "1")
