"""Programs of tools/, run in this process so that torch is loaded once."""

import sys
from importlib import machinery, util
from types import ModuleType

from paths import ROOT


def tool(name: str) -> ModuleType:
    """Return the program tools/NAME as a module."""
    loader = machinery.SourceFileLoader(name, str(ROOT / "tools" / name))
    module = util.module_from_spec(util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


def run(monkeypatch, capsys, module, *flags: object) -> str:
    """Run a tool's `main` with these flags; return what it prints."""
    monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, flags)])
    module.main()
    return capsys.readouterr().out
