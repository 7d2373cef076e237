"""Errors that a user can fix, and the policy for invalid items. Bugs keep their traceback."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def printable(text: str) -> str:
    """Return the text on one line, with control and invisible characters as \\n, \\x1b or \\u202e.

    Names and ids come from files of others. Unchanged, they could forge lines of a log or steer a terminal.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class MedgroundError(Exception):
    """A failure that the user can fix; the command line shows it as one line and exits with 1."""

    def __str__(self) -> str:
        return printable(super().__str__())


class BadRecord(MedgroundError):
    """An invalid record.

    The message names the place and the field, never the value: report text may be private.
    """

    def __init__(self, problem: str, *path: str | int):
        super().__init__(problem)
        self.problem, self.path, self.place = problem, path, ""

    def under(self, step: str | int) -> "BadRecord":
        """Return this error with one more step, an object's key or an array's index, before its path."""
        self.path = (step, *self.path)
        return self

    def at(self, source: str, line: int) -> "BadRecord":
        """Return this error with its file and line."""
        self.place = f"{source}:{line}: "
        return self

    def __str__(self) -> str:
        field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path)
        return printable(self.place + (f"{field.lstrip('.')}: " if field else "") + self.problem)


def sift(
    items: Iterable[Item],
    make: Callable[[Item], Made],
    take: Callable[[Item, BadRecord], None],
    source: str | None = None,
    unit: str = "line",
) -> Iterator[Made]:
    """Yield make(item) for each item; an item for which it raises BadRecord goes to `take` with the error.

    Raises MedgroundError if there were items and all were invalid. `source` and `unit` are for its message;
    the default source is the file in the place of the first error.
    """
    good = rejected = 0
    for item in items:
        try:
            made = make(item)
        except BadRecord as bad:
            take(item, bad)
            source = source or bad.place.split(":")[0]
            rejected += 1
        else:
            good += 1
            yield made
    require_good(good, rejected, source, unit)


def require_good(good: int, rejected: int, source: str | None, unit: str) -> None:
    """Raise MedgroundError if there were items and all were invalid."""
    if rejected and not good:
        raise MedgroundError(f"{source}: every {unit} was rejected")
