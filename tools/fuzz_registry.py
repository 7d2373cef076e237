"""Targets of tools/fuzz: how they are registered and run, and what they share.

A target gets bytes. It may raise MedgroundError and nothing else, and it must end within seconds. The targets
are in fuzz_texts.py and fuzz_pictures.py, which register them when they are imported.
"""

import io
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {}
EXAMPLES: dict[str, list[bytes]] = {}


def target(*examples: bytes | str) -> Callable[[Target], Target]:
    """Register a target with examples that mutations start from."""

    def register(function: Target) -> Target:
        name = function.__name__
        TARGETS[name] = function
        EXAMPLES[name] = [each.encode() if isinstance(each, str) else each for each in examples]
        return function

    return register


class _Named(io.BytesIO):
    name = "input"


def stream(data: bytes) -> io.BufferedReader:
    """Return the bytes as a stream like that of a file."""
    return io.BufferedReader(_Named(data))  # type: ignore[arg-type]


def bad_lines():  # type: ignore[no-untyped-def]
    """Return lines that take every invalid line."""
    from medground import jsonl

    return jsonl.BadLines(io.BytesIO())


def take(line: bytes, bad: Exception) -> None:
    """Take an invalid line or file."""
    str(bad)


def on_file(data: bytes, name: str, read: Callable[[Path], object]) -> None:
    """Call `read` with a file of these bytes."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        read(path)


def run(name: str, data: bytes) -> None:
    """Run a target on one input; raise only what is a finding."""
    from medground.errors import MedgroundError

    logging.getLogger().setLevel(logging.CRITICAL)
    try:
        TARGETS[name](data)
    except MedgroundError as error:
        assert str(error).isprintable()
