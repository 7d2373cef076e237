"""Films by path: from a cache, or decoded once and kept, up to a bound of memory."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from medground.data.image_cache import Cache
from medground.errors import MedgroundError
from medground.models import letterboxed


class ImageStore:
    """Films under a folder, letterboxed to (size, size); `cache` is a folder that `training.cache` made.

    Holds at most `most_bytes` of films that are not in the cache; further ones are decoded each time they
    are asked for. May be used by several threads.
    """

    def __init__(self, folder: Path, size: int, most_bytes: int = 4 << 30, cache: Path | None = None):
        self.folder, self.size = folder, size
        self._cache = Cache(cache, size) if cache else None
        self._most = most_bytes // (size * size)
        self._held: dict[str, letterboxed.LetterboxedImage] = {}

    def get(self, path: str) -> letterboxed.LetterboxedImage:
        """The film of a record's path; raises MedgroundError where it cannot be read."""
        if self._cache and (cached := self._cache.get(path)):
            return cached
        if path in self._held:
            return self._held[path]
        found = letterboxed.read(self.folder / path, self.size)
        if len(self._held) < self._most:
            self._held[path] = found
        return found

    def uncached(self, paths: set[str]) -> int:
        """How many of the paths are not in the cache; 0 without a cache."""
        return sum(path not in self._cache for path in paths) if self._cache else 0

    def require(self, paths: Iterable[str]) -> None:
        """Raise MedgroundError where films are neither in the cache nor files: better now than at the step
        that asks for them. Looks at 16 at once, for disks that answer slowly."""
        wanted = [path for path in dict.fromkeys(paths) if not (self._cache and path in self._cache)]
        with ThreadPoolExecutor(16, "films") as pool:
            there = list(pool.map(lambda path: (self.folder / path).is_file(), wanted))
        if lacking := [path for path, found in zip(wanted, there, strict=True) if not found]:
            raise MedgroundError(
                f"{self.folder / lacking[0]}: no such film ({len(lacking)} of {len(wanted)} are missing); "
                "is --images right?"
            )
