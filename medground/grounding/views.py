"""Mark phrases of images that are not single upright frontal chest X-rays, as `detect-anatomy` does.

Their predictions stay. Each record gets the image's `view`: that of its record or file, or "other".
"""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

from medground import images
from medground.anatomy.detect import NO_CHEST, NOT_FRONTAL
from medground.images import Shown
from medground.models.view_check import ViewCheck
from medground.records import Phrase, is_frontal

log = logging.getLogger(__name__)


@dataclass
class Views:
    """The check, None for no check, and the paths of images that are not frontal."""

    check: ViewCheck | None
    others: set[str] = field(default_factory=set)

    def marked(self, phrases: list[Phrase], path: Path, image: Shown) -> list[Phrase]:
        """Return the phrases of one image, marked and with a warning if it is not frontal."""
        if self.check is None:
            return phrases
        view = phrases[0].extra.get("view") or images.describe(path).view
        if is_frontal(view) and self.check.is_frontal(image):
            return phrases
        if phrases[0].path not in self.others:
            log.warning("%s: %s; do not use its boxes", phrases[0].path, NOT_FRONTAL)
            self.others.add(phrases[0].path)
        view = NO_CHEST if is_frontal(view) else view
        return [replace(each, extra=each.extra | {"view": view}) for each in phrases]

    def warn(self) -> None:
        """Log the number of images that are not frontal, if there are several."""
        if len(self.others) > 1:
            log.warning("%d images: %s (see `view` in the records)", len(self.others), NOT_FRONTAL)
