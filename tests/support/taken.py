"""What a reader hands over as bad, for tests to look at."""


class Taken(list[tuple[bytes, str]]):
    """A `take` for the readers: [(line, message)]."""

    def __call__(self, line, bad):
        self.append((line, str(bad)))
