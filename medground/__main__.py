"""`python -m medground` and the `medground` program."""

import io
import os
import sys
from typing import Any

from medground.cli import ending, messages
from medground.cli.main import cli
from medground.errors import MedgroundError


class Closed(io.RawIOBase):
    """A standard stream that the shell has closed (`>&-`): using it is an error with a message."""

    def __init__(self, name: str):
        self.name = name

    def readable(self) -> bool:
        """Return True: reading raises."""
        return True

    def writable(self) -> bool:
        """Return True: writing raises."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Raise MedgroundError."""
        raise MedgroundError(f"{self.name} is closed; give a file")

    def write(self, data: Any) -> int:
        """Raise MedgroundError; messages to a closed stderr are dropped."""
        if self.name == "<stderr>":
            return len(data)
        raise MedgroundError(f"{self.name} is closed; give a file with -o")


def open_standard_streams() -> None:
    """Put a stream in the place of each standard stream that is closed.

    Its number is taken, too. Otherwise the next file would have it, and messages would be written into it.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
            stream: Any = Closed(f"<{name}>")
            setattr(sys, name, io.TextIOWrapper(stream, encoding="utf-8", write_through=True))


def main() -> None:
    """Run the command line. The program name is fixed, so that help and errors are the same for both entry
    points.
    """
    open_standard_streams()
    messages.hide_values_of_crashes()
    try:
        cli(prog_name="medground")
    except SystemExit as leaving:
        code = ending.written(leaving.code)
        ending.end(code)
        raise SystemExit(code) from None


if __name__ == "__main__":
    main()
