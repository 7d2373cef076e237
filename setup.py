"""Build of the package: with MEDGROUND_COMPILE=1, mypyc compiles the parser of reports to machine code.

    MEDGROUND_COMPILE=1 pip install .
    MEDGROUND_COMPILE=1 pip wheel --no-deps .

Without the variable, and in editable installs, all modules are plain Python. A wheel with a compiled parser
has the sources too, and works only on the Python version and the processor type that built it.
"""

import os
import sys
from typing import Any

from setuptools import setup

# The modules with the time of a parse. Not `lexicon`: msgspec makes its dataclasses, and cannot make mypyc's.
COMPILED = (
    "breaks", "comparisons", "ellipsis", "existence", "joints", "languages", "laterality", "linking",
    "matching", "mention_rules", "mentions", "modifiers", "negation", "negspacy_existence", "parser",
    "predicates", "reading", "regions", "run_ons", "sections", "sentence_parser", "sentences", "settling",
    "sharing", "spelling", "states", "tokens", "triplets", "verdicts",
)  # fmt: skip
# Modules whose types the compiled ones use. All others are skipped: `medground` names types of torch and
# transformers, whose check takes minutes and 3 GB.
TYPES = ("records", "errors", "reports/lexicon", "reports/tries", "reports/wordlists")
BUILDS = frozenset(("bdist_wheel", "build_ext"))  # not `editable_wheel`: a checkout runs its own sources


def extensions(modules: tuple[str, ...] = COMPILED) -> list[Any]:
    """Return the extensions of these modules of `medground.reports`."""
    from mypyc.build import mypycify

    types = [f"medground/{each}.py" for each in TYPES]
    sources = [f"medground/reports/{each}.py" for each in modules]
    # one C file per module: GCC needs more than ten minutes for one file with all
    return mypycify(
        ["--config-file=", "--follow-imports=skip", *types, *sources],
        only_compile_paths=sources,
        multi_file=True,
        opt_level="2",
        debug_level="0",
    )


def main() -> None:
    """Build, with the compiled parser if the variable is set."""
    wanted = os.environ.get("MEDGROUND_COMPILE", "") not in ("", "0")
    built = wanted and not BUILDS.isdisjoint(sys.argv)
    setup(ext_modules=extensions() if built else [], setup_requires=["mypy>=1.15"] if wanted else [])


if __name__ == "__main__":
    main()
