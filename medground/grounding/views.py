"""Mark phrases of images that are not single upright frontal chest X-rays, as `detect-anatomy` does.

Their predictions stay. Each record gets the image's `view`: that of its record or file, or "other".
"""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

from medground import images
from medground.anatomy.detect import NO_CHEST, NOT_FRONTAL
from medground.errors import MedgroundError
from medground.images import Shown
from medground.models.view_check import ViewCheck
from medground.records import Phrase, is_frontal

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """An image that was read while the network was loading, and whether the check takes it for frontal.

    is_frontal: None if it was not checked.
    """

    path: Path
    image: Shown
    is_frontal: bool | None

    @classmethod
    def of(cls, path: Path, check: ViewCheck | None) -> "Seen | None":
        """Return the image of a file, None if it cannot be read: reading it again gives the message."""
        try:
            image = images.load_shown(path)
        except MedgroundError:
            return None
        return cls(path, image, None if check is None else check.is_frontal(image))


@dataclass
class Views:
    """The check, None for no check, an image seen before, and the paths of images that are not frontal."""

    check: ViewCheck | None
    seen: Seen | None = None
    others: set[str] = field(default_factory=set)

    def load_shown(self, path: Path) -> Shown:
        """Return the image of a file as `images.load_shown`; raises as it does."""
        return self.seen.image if self.seen and self.seen.path == path else images.load_shown(path)

    def marked(self, phrases: list[Phrase], path: Path, image: Shown) -> list[Phrase]:
        """Return the phrases of one image, marked and with a warning if it is not frontal."""
        if self.check is None:
            return phrases
        view = phrases[0].extra.get("view") or images.describe(path).view
        if is_frontal(view) and self._is_frontal(self.check, image):
            return phrases
        if phrases[0].path not in self.others:
            log.warning("%s: %s; do not use its boxes", phrases[0].path, NOT_FRONTAL)
            self.others.add(phrases[0].path)
        view = NO_CHEST if is_frontal(view) else view
        return [replace(each, extra=each.extra | {"view": view}) for each in phrases]

    def _is_frontal(self, check: ViewCheck, image: Shown) -> bool:
        if self.seen and self.seen.image is image and self.seen.is_frontal is not None:
            return self.seen.is_frontal
        return check.is_frontal(image)

    def warn(self) -> None:
        """Log the number of images that are not frontal, if there are several."""
        if len(self.others) > 1:
            log.warning("%d images: %s (see `view` in the records)", len(self.others), NOT_FRONTAL)
