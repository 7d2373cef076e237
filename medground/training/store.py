"""Films by path: each is decoded once and then kept, up to a bound of memory."""

from pathlib import Path

from medground.models import film


class FilmStore:
    """Films under a folder, letterboxed to (size, size).

    Holds at most `most_bytes`; further films are decoded each time they are asked for.
    """

    def __init__(self, folder: Path, size: int, most_bytes: int = 4 << 30):
        self.folder, self.size = folder, size
        self._most = most_bytes // (size * size)
        self._held: dict[str, film.Film] = {}

    def get(self, path: str) -> film.Film:
        """The film of a record's path; raises MedgroundError where it cannot be read."""
        if path in self._held:
            return self._held[path]
        found = film.read(self.folder / path, self.size)
        if len(self._held) < self._most:
            self._held[path] = found
        return found
