"""Published file formats, recognized by their first line, so that a message can suggest what to do."""

from collections.abc import Iterable

SIGNS: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    ("mimic-sectioned", (b"study,", b"impression,", b"last_paragraph")),
    ("mimic-jpg", (b"dicom_id,", b"ViewPosition", b"Rows")),
    ("ms-cxr", (b"dicom_id,", b"category_name", b"label_text")),
    ("ms-cxr", (b'"images"', b'"categories"')),
    ("ms-cxr", (b'"annotations"', b'"bbox"', b'"label_text"')),
    ("imagenome-gold", (b"image_id,", b"bbox_name", b"original_x1")),
    ("imagenome", (b'"bbox_name"', b'"original_x1"')),
)

SPLITS = ("train", "val", "valid", "validate", "validation", "dev", "test", "gold")
DIFFERENCE = "difference"  # question_type of a question about two images
PARTS_SHARE_IMAGES = "parts share images"  # in a split's rule: it divides questions, not images
GZIP, GZIPPED = b"\x1f\x8b", "gzipped: zcat it into this command"  # first bytes, and the advice


def splits_shown(names: Iterable[str | None]) -> str:
    """Return the names of splits for a message; unusual ones are only counted, as they may be private."""
    found = set(names) - {None, "", "None"}
    usual = sorted(str(name) for name in found if name in SPLITS)
    others = len(found) - len(usual)
    return ", ".join([*usual, f"{others} with other names"] if others else usual)


def explained(problem: str, line: bytes) -> str:
    """Return the problem with a first line, with advice if the line identifies a published format."""
    if line.startswith(GZIP):
        return GZIPPED
    for name, signs in SIGNS:
        if all(sign in line for sign in signs):
            return f"{problem}; it looks like a published file: see `medground convert {name} --help`"
    return problem
