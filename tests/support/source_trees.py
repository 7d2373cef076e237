"""The syntax trees of Python files, parsed once for all tests of a worker."""

import ast
import functools
import gc
from pathlib import Path

KEPT = (
    *(ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef),
    *(ast.ExceptHandler, ast.Name),
)


@functools.cache
def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    collects = gc.isenabled()
    gc.disable()  # else each collection looks through all trees
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    finally:
        gc.freeze()
        if collects:
            gc.enable()


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """Return all imports, functions, classes, handlers of exceptions and names in a file."""
    return [node for node in ast.walk(tree(path)) if isinstance(node, KEPT)]
