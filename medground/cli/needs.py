"""The modules that each command imports, read from the source without importing them."""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click

import medground
from medground import registry

SOURCE = Path(medground.__file__).parent
EXTRAS = {  # top-level module -> the extra of medground that installs it
    "gdcm": "dicom",
    "highdicom": "dicom",
    "matplotlib": "yolo",
    "pydicom": "dicom",
    "tensorboard": "tensorboard",
    "ultralytics": "yolo",
}
READERS = {  # module -> its function that reads a file of a package without importing it, and the package
    "medground.reports.english": ("grammar_words", "spacy"),
    "medground.reports.negspacy_terms": ("negspacy_terms", "negspacy"),
}
DEVICE = "medground.devices"  # it imports torch for --device only
PARTS = {  # modules that a command imports for one option only: they get a line of their own
    ("evaluate", "medground.checkpoints"): None,  # for --train and --model: part of the next line
    ("evaluate", "medground.cli.evaluate_probes"): "evaluate --probes",
    ("calibrate", "medground.reports.parse"): None,  # never parses: it shares a package with ground
    ("calibrate", "medground.data.long_texts"): None,  # parses only phrases beyond the text length
    ("ground", "medground.reports.parse"): "ground --report",
    ("parse-reports", "medground.reports.negspacy_existence"): "parse-reports --existence-by",
}
TABLES: dict[str, tuple[Any, ...]] = {  # the registry's tables whose targets a command imports
    "convert": (registry.DATASETS,),
    "detect-anatomy": (registry.DETECTORS, registry.MASK_FORMATS),
    "evaluate": (registry.PROTOCOLS, registry.PREDICTION_FORMATS),
    "finetune": (registry.ARCHITECTURES, registry.OBJECTIVES),
    "ground": (registry.ARCHITECTURES, registry.OUTPUT_FORMATS),
    "pretrain": (registry.ARCHITECTURES, registry.OBJECTIVES),
}


@dataclass(frozen=True, order=True)
class Import:
    """One import: a module, and a name in it or None; `function` is called after the import."""

    module: str
    name: str | None = None
    call: bool = False

    @property
    def top(self) -> str:
        """The top-level package."""
        return self.module.partition(".")[0]


def of_commands(group: click.Group) -> dict[str, list[Import]]:
    """Return the imports of each command, and of each option in PARTS, in order of the help."""
    found = {}
    for name, command in group.commands.items():
        if name == "doctor":
            continue
        stops = {module: part for (command_name, module), part in PARTS.items() if command_name == name}
        starts = {module_of(command), *_targets(TABLES.get(name, ()))}
        found[name] = imports_of(starts, without=set(stops))
        for module, part in stops.items():
            if part is None:
                continue
            found[part] = imports_of({module})
    return found


def module_of(command: click.Command) -> str:
    """Return the module that defines a command."""
    function: Any = command.callback
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return str(getattr(function, "__module__", "medground.cli.main"))


def imports_of(starts: Iterable[str], without: set[str] = frozenset()) -> list[Import]:  # type: ignore[assignment]
    """Return all imports that modules of medground, and those that they import, may make.

    Imports of the standard library and of optional packages are left out. Modules of medground come last.
    """
    waiting, own, others = [*starts], set(starts), set()
    while waiting:
        for each in imports_in(waiting.pop()):
            if each.top != "medground":
                others.add(each)
                continue
            for module in filter(_path, (each.module, f"{each.module}.{each.name}")):
                if module not in own | without:
                    own.add(module)
                    waiting.append(module)
    others |= {
        Import(module, function, call=True) for module, (function, _) in READERS.items() if module in own
    }
    return [*sorted(others, key=_order), *(Import(each) for each in sorted(own))]


@cache
def imports_in(module: str) -> frozenset[Import]:
    """Return the imports in one module of medground, at the top and in functions."""
    path = _path(module)
    if path is None:
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    ignored = sys.stdlib_module_names | EXTRAS.keys() | ({"torch"} if module == DEVICE else set())
    found = {each for each in _statements(tree) if each.top not in ignored}
    return frozenset(each for each in found if "tensorboard" not in each.module.split("."))


def _statements(node: ast.AST) -> Iterator[Import]:
    """Yield the imports below a node, and the names that are used of transformers, which loads them late."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Import):
        yield from (Import(each.name) for each in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (Import(node.module, each.name) for each in node.names)
    elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "transformers":
        yield Import("transformers", node.attr)
    for inside in ast.iter_child_nodes(node):
        yield from _statements(inside)


def _path(module: str) -> Path | None:
    """Return the file of a module of medground, or None."""
    parts = module.split(".")[1:]
    files = (SOURCE.joinpath(*parts, "__init__.py"), SOURCE.joinpath(*parts).with_suffix(".py"))
    return next((path for path in files if path.is_file()), None) if parts else None


def _order(each: Import) -> tuple[str, str, str]:
    return each.module.lower(), each.module, each.name or ""


def _targets(tables: Iterable[Any]) -> Iterator[str]:
    """Yield the modules of medground that the entries of registry tables lead to."""
    for table in tables:
        for entry in table.values():
            for value in vars(entry).values():
                if found := re.match(r"(medground[\w.]*):", str(value)):
                    yield found[1]
