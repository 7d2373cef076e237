"""What a user can mend. Everything else keeps its traceback: it is our bug, and we want to see it."""


class MedgroundError(Exception):
    """A failure that the user can mend; the command line shows it as one line and exits with 1."""

    def __str__(self) -> str:
        return super().__str__().replace("\n", "\\n")  # a file's name may have a line feed


class BadRecord(MedgroundError):
    """A line that is not the record it should be.

    The message names the place and the field, never the value: report text may be private.
    """

    def __init__(self, problem: str, *path: str | int):
        super().__init__(problem)
        self.problem, self.path, self.place = problem, path, ""

    def under(self, step: str | int) -> "BadRecord":
        """The same problem, seen from the object or array that holds the value."""
        self.path = (step, *self.path)
        return self

    def at(self, source: str, line: int) -> "BadRecord":
        """The same problem, with the file and line where it stands."""
        self.place = f"{source}:{line}: "
        return self

    def __str__(self) -> str:
        field = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path)
        return self.place + (f"{field.lstrip('.')}: " if field else "") + self.problem
