"""Images by path: from a cache, or decoded once and kept in memory up to a limit."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from medground.data.image_cache import Cache
from medground.errors import MedgroundError
from medground.models import letterboxed


class ImageStore:
    """Images under a folder, letterboxed to (size, size); `cache` is a folder of `medground cache`.

    At most `most_bytes` of images outside the cache are kept; others are decoded each time. Thread-safe.
    """

    def __init__(self, folder: Path, size: int, most_bytes: int = 4 << 30, cache: Path | None = None):
        self.folder, self.size = folder, size
        self._cache = Cache(cache, size) if cache else None
        self._most = most_bytes // (size * size)
        self._held: dict[str, letterboxed.LetterboxedImage] = {}

    def get(self, path: str) -> letterboxed.LetterboxedImage:
        """Return the image of a record's path; raise MedgroundError if it is unreadable."""
        if self._cache and (cached := self._cache.get(path)):
            return cached
        if path in self._held:
            return self._held[path]
        found = letterboxed.read(self.folder / path, self.size)
        if len(self._held) < self._most:
            self._held[path] = found
        return found

    def uncached(self, paths: set[str]) -> int:
        """Return the number of paths that are not in the cache; 0 without a cache."""
        return sum(path not in self._cache for path in paths) if self._cache else 0

    def require(self, paths: Iterable[str]) -> None:
        """Raise MedgroundError if images are neither in the cache nor files, before the training starts.

        So do other files than those that were cached (`Cache.compare`). 16 threads check the files, for slow
        disks.
        """
        paths = list(dict.fromkeys(paths))
        if self._cache:
            self._cache.compare(self.folder, paths)
        wanted = [path for path in paths if not (self._cache and path in self._cache)]
        with ThreadPoolExecutor(16, "images") as pool:
            there = list(pool.map(lambda path: (self.folder / path).is_file(), wanted))
        if lacking := [path for path, found in zip(wanted, there, strict=True) if not found]:
            raise MedgroundError(
                f"{self.folder / lacking[0]}: no such image ({len(lacking)} of {len(wanted)} are missing); "
                "check --images"
            )
