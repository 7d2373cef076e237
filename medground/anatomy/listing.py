"""Input images: a folder, one image, a text list of paths, or JSON lines -> image records.

Paths of the records are relative to the images folder. Without an id, the image id is the file name
without its suffix, as in MIMIC-CXR-JPG.
"""

import io
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from medground import images, jsonl
from medground.errors import BadRecord, MedgroundError
from medground.records import Image


def open_list(source: str, folder: Path, bad_lines: jsonl.BadLines) -> Iterator[Image]:
    """Yield a record for each image of SOURCE: a folder (searched recursively, in name order); an
    image; a list, as `read_images` takes it; "-" for a list on stdin."""
    if os.path.isdir(source):
        yield from distinct(_named(_sayable(_walk(Path(source)), bad_lines), folder))
    elif source == "-":
        yield from read_images(sys.stdin.buffer, folder, bad_lines)
    else:
        with open(source, "rb") as stream:
            yield from read_images(stream, folder, bad_lines)


def read_images(stream: BinaryIO, folder: Path, bad_lines: jsonl.BadLines) -> Iterator[Image]:
    """Yield a record for each image in a file or stdin, in order.

    A file with the first bytes of an image is one image, one that starts with { holds JSON lines, any
    other holds one path per line. Raises MedgroundError if two images have the same id.
    """
    source = Path(jsonl.name_of(stream))
    stream, first = _peek(stream)
    if b"\0" in first or (source.is_file() and images.is_image(source)):
        return distinct(_named([source], folder))
    if not first.strip() or first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        return distinct(jsonl.read(stream, Image, bad_lines))
    return distinct(_listed(stream, folder, bad_lines))


def _peek(stream: Any) -> tuple[BinaryIO, bytes]:
    """Return (the stream, its first bytes without consuming them): b"" for an empty one."""
    buffered = stream if hasattr(stream, "peek") else io.BufferedReader(stream)
    return buffered, buffered.peek(512)[:512]


def _walk(folder: Path) -> Iterator[Path]:
    for parent, below, names in os.walk(folder):
        below.sort()
        for name in sorted(names):
            if images.is_image(name) and not name.startswith("."):
                yield Path(parent, name)


def _sayable(paths: Iterable[Path], bad_lines: jsonl.BadLines) -> Iterator[Path]:
    """Yield the paths that JSON can represent; others go to the bad lines."""
    for path in paths:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            problem = f"{os.fsencode(path)!r}: the file's name is not UTF-8; rename it"
            bad_lines.take(os.fsencode(path), MedgroundError(problem))
        else:
            yield path


def _named(paths: Iterable[Path], folder: Path) -> Iterator[Image]:
    for path in paths:
        yield Image(image_id=path.stem, path=os.path.relpath(path, folder))


def _listed(stream: BinaryIO, folder: Path, bad_lines: jsonl.BadLines) -> Iterator[Image]:
    """Yield an image per line. A line is only quoted if it is like a path: the file may be a table."""
    for number, line in enumerate(stream, start=1):
        try:
            path = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            place = f"{jsonl.name_of(stream)}:{number}"
            raise MedgroundError(f"{place}: neither a path nor JSON; convert it with iconv") from None
        if path and not (images.is_image(path) or os.path.exists(os.path.join(folder, path))):
            problem = BadRecord("not a path of an image from the images folder")
            bad_lines.take(line, problem.at(jsonl.name_of(stream), number))
        elif path:
            yield Image(image_id=Path(path).stem, path=path)


def distinct(records: Iterable[Image]) -> Iterator[Image]:
    """Yield the records; raises MedgroundError if two have the same image_id."""
    seen: set[str] = set()
    for record in records:
        if record.image_id in seen:
            said = "two images have the same image_id"
            raise MedgroundError(f"{record.path}: {said}; give JSON lines with an image_id each")
        seen.add(record.image_id)
        yield record
