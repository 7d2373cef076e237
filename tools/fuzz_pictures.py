"""Targets of tools/fuzz that read pictures and DICOM: images, structured reports, segmentations."""

import io
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from fuzz_registry import on_file, stream, take, target
from PIL import Image

from medground import jsonl
from medground.errors import MedgroundError

EXPLICIT = b"1.2.840.10008.1.2.1"
LONG = (b"OB", b"OW", b"SQ", b"UT")  # have a length of four bytes
GROUP = ("CONTAINER", "125007")
STORED = {  # pixels of a frame of 8 x 8
    "BINARY": b"\0\x0f\x0f\0\0\0\xf0\xf0",
    "FRACTIONAL": b"\0\xff" * 32,
    "LABELMAP": b"\0\1" * 32,
}
Reader = Callable[[Path, Any, Any], Iterable[Any]]


def _picture(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.frombytes("L", (4, 4), bytes(range(16))).save(stream, kind)
    return stream.getvalue()


def _element(tag: int, kind: bytes, value: bytes) -> bytes:
    """Return an element, explicit little endian."""
    value += b"\0" * (len(value) % 2)
    length = struct.pack("<HI", 0, len(value)) if kind in LONG else struct.pack("<H", len(value))
    return struct.pack("<HH", tag >> 16, tag & 0xFFFF) + kind + length + value


def _numbers(values: dict[int, int]) -> bytes:
    return b"".join(_element(tag, b"US", struct.pack("<H", value)) for tag, value in values.items())


def _file(*elements: bytes) -> bytes:
    """Return a DICOM file."""
    meta = _element(0x20010, b"UI", EXPLICIT)
    return (
        b"\0" * 128
        + b"DICM"
        + _element(0x20000, b"UL", struct.pack("<I", len(meta)))
        + b"".join((meta, *elements))
    )


def _image() -> bytes:
    """Return a small DICOM image."""
    return _file(
        _numbers({0x280002: 1}),
        _element(0x280004, b"CS", b"MONOCHROME2"),
        _numbers({0x280010: 4, 0x280011: 4, 0x280100: 8, 0x280101: 8, 0x280102: 7, 0x280103: 0}),
        _element(0x281050, b"DS", b"8"),
        _element(0x281051, b"DS", b"16"),
        _element(0x7FE00010, b"OW", bytes(range(16))),
    )


def _sequence(tag: int, *items: bytes) -> bytes:
    """Return a sequence whose parts end with delimiters, so that a longer value leaves the rest valid."""
    ended = (b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + each + b"\xfe\xff\x0d\xe0\0\0\0\0" for each in items)
    head = struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, b"SQ", 0, 0xFFFFFFFF)
    return head + b"".join(ended) + b"\xfe\xff\xdd\xe0\0\0\0\0"


def _code(tag: int, value: str) -> bytes:
    parts = (0x80100, value), (0x80102, "DCM"), (0x80104, "x")
    return _sequence(tag, b"".join(_element(each, b"SH", text.encode()) for each, text in parts))


def _content(kind: str, name: str, *more: bytes) -> bytes:
    """Return an item of a structured report."""
    return _element(0x40A040, b"CS", kind.encode()) + _code(0x40A043, name) + b"".join(more)


def _report() -> bytes:
    """Return a structured report with one group and one region."""
    source = _element(0x81155, b"UI", b"1.2.3")
    picture = _content("IMAGE", "260753009", _sequence(0x81199, source))
    corners = _element(0x700022, b"FL", struct.pack("<6f", 1, 1, 5, 1, 5, 5))
    region = _content(
        "SCOORD", "111030", _sequence(0x40A730, picture), corners, _element(0x700023, b"CS", b"POLYLINE")
    )
    words = _content("TEXT", "121106", _element(0x40A160, b"UT", b"effusion"))
    value = _sequence(0x40A300, _element(0x40A30A, b"DS", b"50"))
    group = _content(*GROUP, _sequence(0x40A730, words, _content("NUM", "111012", value), region))
    return _file(
        _element(0x80016, b"UI", b"1.2.840.10008.5.1.4.1.1.88.33"),
        _element(0x100020, b"LO", b"p"),
        _sequence(0x40A730, group),
    )


def _segmentation(kind: str) -> bytes:
    """Return a segmentation with one frame of one segment."""
    class_uid = b"1.2.840.10008.5.1.4.1.1.66." + (b"7" if kind == "LABELMAP" else b"4")
    bits = 1 if kind == "BINARY" else 8
    source = _sequence(0x82112, _element(0x81155, b"UI", b"1.2.3"))
    frame = _sequence(0x89124, source) + _sequence(0x62000A, _numbers({0x62000B: 1}))
    return _file(
        _element(0x80016, b"UI", class_uid),
        _numbers({0x280002: 1}),
        _element(0x280004, b"CS", b"MONOCHROME2"),
        _element(0x280008, b"IS", b"1"),
        _numbers({0x280010: 8, 0x280011: 8, 0x280100: bits, 0x280101: bits, 0x280102: bits - 1, 0x280103: 0}),
        _element(0x620001, b"CS", kind.encode()),
        _sequence(0x620002, _numbers({0x620004: 1}) + _element(0x620005, b"LO", b"Mass")),
        _numbers({0x62000E: 255}),
        _sequence(0x52009230, frame),
        _element(0x7FE00010, b"OB", STORED[kind]),
    )


@target(*map(_picture, ("PNG", "JPEG", "TIFF")), _image())
def image(data: bytes) -> None:
    """Pictures: PNG, JPEG, TIFF, and a DICOM file, so that pydicom is imported first."""
    from medground import images

    on_file(data, "i.png", lambda path: (images.describe(path), images.load(path)))


def _as_dicom(data: bytes) -> bytes:
    return data if data[128:132] == b"DICM" else b"\0" * 128 + b"DICM" + data


@target(_image())
def dicom(data: bytes) -> None:
    """DICOM images."""
    from medground import images

    on_file(_as_dicom(data), "i.dcm", lambda path: (images.describe(path), images.load(path)))


def _objects(data: bytes, *readers: Reader) -> None:
    """Read DICOM objects with and without their images."""
    from medground.datasets.dicom_objects import Referenced

    known = {"1.2.3": [Referenced("i", "i.dcm", 8, 8)]}

    def read(path: Path) -> None:
        for reader, images in ((reader, images) for reader in readers for images in (None, known)):
            found: list[Any] = []
            with suppress(MedgroundError):
                found.extend(reader(path, take, images))
            _check_written(found)

    on_file(_as_dicom(data), "i.dcm", read)


def _check_written(records: list[Any]) -> None:
    """Fail unless the next command can read what `convert` would write of these records."""
    for each in records:
        try:
            assert list(jsonl.read(stream(jsonl.dumps(each)), type(each), jsonl.BadLines())) == [each]
        except MedgroundError as error:
            raise AssertionError(f"a record that no command reads: {error}") from error


@target(_report())
def dicom_sr(data: bytes) -> None:
    """DICOM structured reports: measurement groups with regions."""
    from medground.datasets import dicom_reports

    _objects(data, dicom_reports.read)


@target(*map(_segmentation, STORED))
def dicom_seg(data: bytes) -> None:
    """DICOM segmentations: as phrases with boxes, and as masks."""
    from medground.datasets import dicom_segmentations

    _objects(data, dicom_segmentations.read, dicom_segmentations.read_masks)
