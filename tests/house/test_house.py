"""The rules of the house: the direction of imports, what may be loaded when, and lengths."""

import ast
import functools
import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from commands import COMMANDS
from source_trees import nodes, tree

PACKAGE = Path(__file__).resolve().parents[2] / "medground"
TOOLS = sorted(each for each in (PACKAGE.parent / "tools").iterdir() if each.is_file())
MODULES = sorted(PACKAGE.rglob("*.py"))
PROGRAMS = [
    path
    for folder in ("tools", "examples")
    for path in sorted(PACKAGE.with_name(folder).rglob("*"))
    if path.suffix == ".py" or (path.is_file() and path.read_bytes()[:20].startswith(b"#!/usr/bin/env pyth"))
]

ROWS = [  # the ground first: a module imports from lower rows, and inside its own folder
    {"errors", "records", "record_json", "published", "shipped", "threads", "processors"},
    {
        *(
            "boxes",
            "compat",
            "compat_transformers",
            "config_limits",
            "console",
            "devices",
            "limits",
            "locations",
            "locks",
            "ops",
            "registry",
            "shards",
        ),
        *("site_key", "spreadsheet"),
        *("anatomy.regions", "reports.clauses"),
    },
    {"strict_json"},
    {
        *("answers", "archives", "arrays", "coco_ids", "dicom", "encodings", "hot_cells"),
        *("light_records", "output_files", "run_lengths", "thresholds"),
    },
    {"jsonl", "images", "checkpoints", "figures", "mask_records", "parallel"},
    {"image_sizes", "model_dir", "progress", "record_files"},
    {"leakage", "resuming"},
    {"models"},
    {"reports", "anatomy", "pairing", "joining", "datasets", "phantom", "reports.spacy_component"},
    {"objectives"},
    {"data"},
    {"training", "grounding", "evaluation", "downstream"},
    {"api"},
    {"cli"},
    {"__main__", "__init__"},
]
HEIGHT = {name: height for height, names in enumerate(ROWS) for name in names}

# What a room may import from outside at the top of its files; the rest is imported where it is used.
OUTSIDE = {
    "records": {"msgspec"},
    "record_json": {"orjson"},
    "answers": {"numpy"},
    "arrays": {"numpy"},
    "boxes": {"numpy"},
    "hot_cells": {"numpy"},
    "run_lengths": {"numpy"},
    "thresholds": {"numpy"},
    "ops": {"torch"},
    "jsonl": {"orjson", "msgspec"},
    "light_records": {"msgspec"},
    "strict_json": {"orjson"},
    "dicom": {"numpy"},
    "images": {"numpy", "PIL"},
    "checkpoints": {"safetensors", "torch"},
    "model_dir": {"torch"},
    "figures": {"numpy", "PIL"},
    "anatomy": {"msgspec", "numpy", "PIL", "torch"},
    "datasets": {"numpy", "orjson"},
    "reports.spacy_component": {"spacy"},
    "joining": {"orjson"},
    "progress": {"orjson"},
    "resuming": {"orjson"},
    "models": {"numpy", "torch", "transformers"},
    "phantom": {"numpy", "PIL", "orjson", "scipy"},
    "objectives": {"torch"},
    "data": {"msgspec", "numpy", "orjson", "torch"},
    "training": {"accelerate", "numpy", "orjson", "tomli_w", "torch"},
    "grounding": {"numpy", "PIL", "torch"},
    "evaluation": {"numpy"},
    "downstream": {"numpy", "torch"},
    "cli": {"click"},
}
HEAVY = {
    "torch",
    "spacy",
    "transformers",
    "ultralytics",
    "numpy",
    "scipy",
    "rich",
    "tqdm",
    "PIL",
    "accelerate",
    "importlib.metadata",
}


def name_of(path):
    return str(path.relative_to(PACKAGE))


def room_of(path):
    """Return the room of a file: `pairing` for pairing.py, `anatomy` for anatomy/detect.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts) if ".".join(parts) in HEIGHT else parts[0]


def imported(path):
    """Yield the modules under `medground` that a file imports, anywhere in the file."""
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            if node.module == "medground":
                yield from (alias.name for alias in node.names)
            elif node.module.startswith("medground."):
                inside = node.module.removeprefix("medground.")
                yield from (f"{inside}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (
                a.name.removeprefix("medground.") for a in node.names if a.name.startswith("medground.")
            )


def imported_rooms(path):
    for name in imported(path):
        words = name.split(".")
        known = next((".".join(words[:n]) for n in (2, 1) if ".".join(words[:n]) in HEIGHT), None)
        if known:  # `from medground import __version__` names no room
            yield known


@functools.cache
def defined(module):
    """Return the names that a module of medground defines or imports, and those of its submodules."""
    path = PACKAGE.joinpath(*module.split(".")) if module else PACKAGE
    files = [each for each in (path.with_suffix(".py"), path / "__init__.py") if each.exists()]
    names = {each.stem for each in path.glob("*.py")} | {each.name for each in path.glob("*/")}
    for node in nodes(files[0]) if files else ():
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names |= {(each.asname or each.name).split(".")[0] for each in node.names}
    return names


def test_programs_import_what_is_there():
    missing = [
        f"{path.name}: {name}"
        for path in PROGRAMS
        for name in imported(path)
        if name.rpartition(".")[2] not in defined(name.rpartition(".")[0])
    ]
    assert missing == []


def test_imports_run_downhill():
    uphill = [
        f"{name_of(path)}: {room}"
        for path in MODULES
        for own in [room_of(path)]
        for room in imported_rooms(path)
        if room.split(".")[0] != own.split(".")[0] and HEIGHT[room] >= HEIGHT[own]
    ]
    assert uphill == []


def test_every_room_has_its_row():
    assert {room_of(path) for path in MODULES} <= HEIGHT.keys()


@pytest.mark.parametrize("room", ["pairing", "datasets", "reports"])
def test_stages_that_take_and_give_records_know_no_files_of_lines(room):
    for path in MODULES:
        if room_of(path) == room:
            assert "jsonl" not in set(imported_rooms(path)), path


def loaded_at_the_top(path):
    """Return the packages from outside that a file imports when it is loaded."""
    outside = set()
    for node in tree(path).body:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            outside.add(node.module.split(".")[0])
        elif isinstance(node, ast.Import):
            outside |= {alias.name.split(".")[0] for alias in node.names}
    return outside - {"medground", *sys.stdlib_module_names}


def test_a_file_loads_at_its_top_only_what_its_room_may():
    excess = {name_of(path): loaded_at_the_top(path) - OUTSIDE.get(room_of(path), set()) for path in MODULES}
    assert {path: packages for path, packages in excess.items() if packages} == {}


LOADED = """
import json, sys
from click.testing import CliRunner
from medground.cli.main import cli
loaded = {}
for words in json.loads(sys.argv[1]):
    result = CliRunner().invoke(cli, words)
    loaded[" ".join(words)] = [result.exit_code, sorted(sys.modules)]
print(json.dumps(loaded))
"""


@pytest.mark.slow
def test_help_and_usage_errors_load_nothing_heavy():
    calls = [["--help"], ["--no-such-option"]]
    calls += [[*path, flag] for path in COMMANDS for flag in ("--help", "--no-such-option")]
    code = [sys.executable, "-c", LOADED, json.dumps(calls)]
    loaded = json.loads(subprocess.run(code, capture_output=True, text=True, check=True).stdout)
    for words, (exit_code, modules) in loaded.items():
        assert exit_code == (0 if words.endswith("--help") else 2), words
        assert not HEAVY & set(modules), words


def functions():
    for path in MODULES:
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node, node.end_lineno - node.lineno + 1


def test_functions_are_short(record_property):
    lengths = sorted(length for *_, length in functions())
    assert [f"{name_of(path)}: {node.name}" for path, node, n in functions() if n > 60] == []
    record_property("median function", statistics.median(lengths))
    assert statistics.median(lengths) <= 10
    assert lengths[len(lengths) * 9 // 10] <= 25


def test_files_are_short():
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in [*MODULES, *TOOLS]}
    assert {path: length for path, length in lengths.items() if length > 350} == {}


def test_every_file_says_what_it_is_for():
    assert [name_of(path) for path in MODULES if not ast.get_docstring(tree(path))] == []
    assert [name_of(path) for path in MODULES if "TODO" in path.read_text(encoding="utf-8")] == []


def test_what_is_public_says_what_comes_back():
    silent = [
        f"{name_of(path)}: {node.name}"
        for path in MODULES
        for node in tree(path).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


def test_no_exception_is_caught_blindly():
    blind = [
        f"{name_of(path)}:{node.lineno}"
        for path in MODULES
        for node in nodes(path)
        if isinstance(node, ast.ExceptHandler)
        if not node.type or {"Exception", "BaseException"} & {ast.unparse(node.type)}
    ]
    assert blind == []


def test_a_tool_says_what_it_is_for_and_can_be_run():
    programs = [path for path in TOOLS if not path.suffix]  # others are no programs: a stylesheet, say
    assert [path.name for path in programs if not path.read_text(encoding="utf-8").startswith("#!")] == []
    assert [path.name for path in programs if not path.stat().st_mode & 0o111] == [], "chmod +x"
