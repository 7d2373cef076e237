"""Mask records as arrays, and the check of a file of them."""

from collections.abc import Callable

from medground import run_lengths
from medground.errors import BadRecord
from medground.records import Mask

Key = tuple[str, str]


def key_of(mask: Mask) -> Key:
    """Return the image and the class of a mask."""
    return mask.image_id, mask.category


def pixels(mask: Mask) -> run_lengths.Mask:
    """Return the (H, W) mask of a record; raise BadRecord if its run lengths do not fill it."""
    try:
        return run_lengths.mask_of((mask.height, mask.width), mask.counts)
    except ValueError:
        raise BadRecord("expected COCO's run lengths of height x width pixels", "counts") from None


def check() -> Callable[[Mask], None]:
    """Return a check that raises BadRecord for a second mask, and for run lengths that do not fill it."""
    seen: set[Key] = set()

    def once(mask: Mask) -> None:
        if key_of(mask) in seen:
            raise BadRecord("the second mask of this class on this image", "category")
        seen.add(key_of(mask))
        pixels(mask)

    return once
