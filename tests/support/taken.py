"""A collector of the lines that a reader rejects."""


class Taken(list[tuple[bytes, str]]):
    """A `take` for the readers, as a list of (line, message)."""

    def __call__(self, line, bad):
        self.append((line, str(bad)))
