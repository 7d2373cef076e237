"""Every kind of file that people have beside their images: a message or an image, never a traceback, and the
good ones beside it are all done."""

import gzip
import io
import json
import os
import struct
import zipfile
import zlib

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from dicom_files import dicom
from PIL import Image
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

from medground.anatomy import detector
from medground.anatomy.detect import Found
from medground.cli.main import cli

RAMP = np.linspace(0, 255, 60 * 40).astype(np.uint8).reshape(60, 40)
GREY = Image.fromarray(RAMP)
DONE, REJECTED = True, False


class Ruler:
    """A detector that finds one region on whatever it is shown."""

    size, model, doubt = 64, "ruler", 0.0

    def find(self, squares):
        assert np.isfinite(squares).all() and squares.min() >= 0 and squares.max() <= 1
        return [[Found("spine", (16.0, 16, 48, 48), 0.9)] for _ in squares]

    def close(self):
        pass


def encoded(picture=GREY, kind="PNG", **how):
    stream = io.BytesIO()
    picture.save(stream, kind, **how)
    return stream.getvalue()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, depth=8, colour=0, data=b""):
    """A PNG whose header says what we like."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def frames(kind):
    return encoded(GREY, kind, save_all=True, append_images=[GREY.rotate(180)])


def exif(orientation):
    said = Image.Exif()
    said[0x0112] = orientation
    return encoded(GREY, "JPEG", exif=said)


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("image.png", encoded())
    return stream.getvalue()


WHOLE = encoded()
DEEP = np.linspace(0, 65535, 60 * 40).astype(np.uint16).reshape(60, 40)
GAPS = np.where(np.eye(60, 40), np.nan, RAMP.astype(np.float32))
BYTES = {  # what lies in image.png, and whether it is done
    "a whole image": (WHOLE, DONE),
    "no bytes": (b"", REJECTED),
    "the first eight bytes": (WHOLE[:8], REJECTED),
    "half a header": (WHOLE[:20], REJECTED),
    "no pixels": (WHOLE[:45], REJECTED),
    "half the pixels": (WHOLE[: len(WHOLE) // 2], REJECTED),
    "a damaged header": (WHOLE[:18] + b"\xff\xff" + WHOLE[20:], REJECTED),
    "a header without width": (png(0, 60), REJECTED),
    "a header that lies": (png(4000, 4000, data=b"\0" * 99), REJECTED),
    "a bomb by its header": (png(60_000, 60_000), REJECTED),
    "half a JPEG": (encoded(kind="JPEG")[:300], REJECTED),
    "a JPEG's first bytes": (b"\xff\xd8\xff\xe0\x00\x10JFIF", REJECTED),
    "half a TIFF": (encoded(kind="TIFF")[:60], REJECTED),
    "words": (b"this is no image\n", REJECTED),
    "a web page": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", REJECTED),
    "JSON": (b'{"error": "not found"}', REJECTED),
    "zeros": (bytes(5000), REJECTED),
    "noise": (np.random.default_rng(0).bytes(5000), REJECTED),
    "a zip archive": (zipped(), REJECTED),
    "a packed PNG": (gzip.compress(WHOLE), REJECTED),
    "a PDF": (b"%PDF-1.7\n%%EOF\n", REJECTED),
    "an SVG": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', REJECTED),
    "a git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", REJECTED),
    "a JPEG called PNG": (encoded(kind="JPEG"), DONE),
    "a GIF": (encoded(kind="GIF"), DONE),
    "a moving GIF": (frames("GIF"), DONE),
    "a BMP": (encoded(kind="BMP"), DONE),
    "a WebP": (encoded(GREY.convert("RGB"), "WEBP"), DONE),
    "a CMYK JPEG": (encoded(GREY.convert("CMYK"), "JPEG"), DONE),
    "a palette": (encoded(GREY.convert("P")), DONE),
    "a palette that is see-through": (encoded(GREY.convert("P"), transparency=0), DONE),
    "one bit": (encoded(GREY.convert("1")), DONE),
    "RGBA": (encoded(GREY.convert("RGBA")), DONE),
    "LAB": (encoded(Image.new("LAB", (40, 60)), "TIFF"), DONE),
    "sixteen bits": (encoded(Image.fromarray(DEEP)), DONE),
    "a TIFF with sixteen bits, high byte first": (encoded(Image.fromarray(DEEP.astype(">u2")), "TIFF"), DONE),
    "a TIFF of floats with gaps": (encoded(Image.fromarray(GAPS.astype(np.float32)), "TIFF"), DONE),
    "a TIFF of nothing but NaN": (encoded(Image.fromarray(np.full((9, 9), np.nan, "f4")), "TIFF"), DONE),
    "a TIFF with infinities": (encoded(Image.fromarray(np.array([[np.inf, 1.0]], "f4")), "TIFF"), DONE),
    "a TIFF of several pages": (frames("TIFF"), DONE),
    "one pixel": (encoded(Image.new("L", (1, 1), 9)), DONE),
    "one column": (encoded(Image.new("L", (1, 10_000), 9)), DONE),
    "one row": (encoded(Image.new("L", (10_000, 1), 9)), DONE),
    "all black": (encoded(Image.new("L", (40, 60), 0)), DONE),
    "all white": (encoded(Image.new("L", (40, 60), 255)), DONE),
    "all black, sixteen bits": (encoded(Image.fromarray(np.zeros((60, 40), np.uint16))), DONE),
    "lying on its side, by EXIF": (exif(6), DONE),
    "an EXIF orientation that is none": (exif(99), DONE),
    "bytes after its end": (WHOLE + b"more", DONE),
}


@pytest.fixture
def folder(tmp_path):
    """Two good images, before and after the one in question by name."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a_good.png", "z_good.png"):
        GREY.save(folder / name)
    return folder


@pytest.fixture
def run(folder, monkeypatch):
    """Run detect-anatomy on the folder or a list; (lines by image_id, rejected ids, the result)."""
    monkeypatch.setattr(detector, "load", lambda *how: Ruler())
    (folder.parent / "model").write_bytes(b"")

    def detect(*flags, source=None):
        command = ["detect-anatomy", str(source or folder), "--images", str(folder), "--device", "cpu"]
        result = CliRunner().invoke(cli, [*command, "--model", str(folder.parent / "model"), *flags])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return {each["image_id"]: each for each in map(json.loads, result.stdout.splitlines())}, result

    return detect


def judge(run, folder, name, wanted, **how):
    """The image is done, or put aside and named; the good ones are done in any case."""
    rejects = folder.parent / "rejects.jsonl"
    done, result = run("--rejects", str(rejects), **how)
    assert result.exit_code == 0, result.stderr
    assert {"a_good", "z_good"} <= done.keys()
    if wanted == DONE:
        assert name in done and not rejects.exists() and done[name]["regions"]
        box, size = done[name]["regions"][0]["box"], (done[name]["width"], done[name]["height"])
        assert 0 <= box[0] < box[2] <= size[0] + 0.1 and 0 <= box[1] < box[3] <= size[1] + 0.1
        return done[name]
    assert name not in done and len(rejects.read_text().splitlines()) == 1
    assert result.stderr.count("\n") == 1 and "Traceback" not in result.stderr
    _, alone = run(**how)
    assert alone.exit_code == 1 and alone.stderr.startswith("Error: ") and alone.stderr.count("\n") == 1
    return None


@pytest.mark.parametrize("kind", BYTES)
def test_whatever_a_file_holds(run, folder, kind):
    content, wanted = BYTES[kind]
    (folder / "image.png").write_bytes(content)
    judge(run, folder, "image", wanted)


def test_an_image_on_its_side_has_upright_boxes(run, folder):
    (folder / "image.jpg").write_bytes(exif(6))
    line = judge(run, folder, "image", DONE)
    assert (line["width"], line["height"]) == (60, 40)


def test_a_wrong_suffix_is_no_matter(run, folder):
    (folder / "image.dcm").write_bytes(WHOLE)
    judge(run, folder, "image", DONE)


# DICOM


def changed(path, **tags):
    """A DICOM file again, with other tags and no check of them."""
    data = pydicom.dcmread(path)
    for name, value in tags.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.save_as(path)


def several(path):
    dicom(path, np.concatenate([DEEP, DEEP[::-1]]), Rows=60, NumberOfFrames=2)


def truncated(path, keep):
    dicom(path, DEEP)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])


def in_syntax(path, syntax):
    dicom(path, DEEP)
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = pydicom.encaps.encapsulate([DEEP.tobytes()])
    data["PixelData"].is_undefined_length = True
    data.save_as(path, enforce_file_format=False)


DICOMS = {
    "sixteen bits": (lambda path: dicom(path, DEEP), DONE),
    "colour": (lambda path: dicom(path, np.dstack([RAMP] * 3)), DONE),
    "several frames": (several, DONE),
    "signed": (lambda path: dicom(path, DEEP.astype(np.int32).astype(np.int16)), DONE),
    "a constant image": (lambda path: dicom(path, np.full((60, 40), 7, np.uint16)), DONE),
    "a slope of 0": (lambda path: dicom(path, DEEP, RescaleSlope=0, RescaleIntercept=0), DONE),
    "a huge slope": (lambda path: dicom(path, DEEP, RescaleSlope="1e300", RescaleIntercept=0), DONE),
    "a window without width": (lambda path: dicom(path, DEEP, WindowCenter=9, WindowWidth=0), DONE),
    "spacing of 0": (lambda path: dicom(path, DEEP, PixelSpacing=[0, 0]), DONE),
    "an unknown kind of light": (lambda p: dicom(p, DEEP, PhotometricInterpretation="DARK"), REJECTED),
    "no pixels": (lambda path: (dicom(path, DEEP), changed(path, PixelData=None)), REJECTED),
    "no rows": (lambda path: (dicom(path, DEEP), changed(path, Rows=None)), REJECTED),
    "no bits": (lambda path: (dicom(path, DEEP), changed(path, BitsAllocated=None)), REJECTED),
    "rows of 0": (lambda path: (dicom(path, DEEP), changed(path, Rows=0)), REJECTED),
    "too many rows": (lambda path: (dicom(path, DEEP), changed(path, Rows=600)), REJECTED),
    "a bomb": (lambda path: (dicom(path, DEEP), changed(path, Rows=65_535, Columns=65_535)), REJECTED),
    "half of it": (lambda path: truncated(path, 0.5), REJECTED),
    "its first 200 bytes": (lambda path: truncated(path, 0.03), REJECTED),
    "the preamble alone": (lambda path: path.write_bytes(bytes(128) + b"DICM"), REJECTED),
    "noise after the preamble": (
        lambda path: path.write_bytes(bytes(128) + b"DICM" + np.random.default_rng(1).bytes(999)),
        REJECTED,
    ),
    "an unknown transfer syntax": (lambda path: in_syntax(path, "1.2.3.4.5"), REJECTED),
    "no JPEG where one is said": (lambda path: in_syntax(path, JPEGBaseline8Bit), REJECTED),
    "no JPEG 2000 where one is said": (lambda path: in_syntax(path, JPEG2000Lossless), REJECTED),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of the files that this test writes
@pytest.mark.parametrize("kind", DICOMS)
def test_whatever_a_dicom_file_holds(run, folder, kind):
    write, wanted = DICOMS[kind]
    write(folder / "image.dcm")
    judge(run, folder, "image", wanted)


# What is no file, or hard to name


def listed(folder, *names):
    path = folder.parent / "list.jsonl"
    ids = {"image" if name == names[0] else name.removesuffix(".png"): name for name in names}
    lines = [{"image_id": key, "path": name} for key, name in ids.items()]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", ["folder", "fifo", "dangling link", "link to itself", "missing", "device"])
def test_what_is_no_file_is_put_aside(run, folder, kind):
    path = folder / "image.png"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "dangling link":
        path.symlink_to("nowhere.png")
    elif kind == "link to itself":
        path.symlink_to(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    judge(run, folder, "image", REJECTED, source=listed(folder, path.name, "a_good.png", "z_good.png"))


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", ["fifo", "dangling link"])
def test_what_is_no_file_is_put_aside_in_a_folder_too(run, folder, kind):
    if kind == "fifo":
        os.mkfifo(folder / "image.png")
    else:
        (folder / "image.png").symlink_to("nowhere.png")
    judge(run, folder, "image", REJECTED)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_image_that_may_not_be_read_is_put_aside(run, folder):
    GREY.save(folder / "image.png")
    (folder / "image.png").chmod(0)
    judge(run, folder, "image", REJECTED)


def test_a_folder_called_like_an_image_is_searched(run, folder):
    (folder / "image.png").mkdir()
    GREY.save(folder / "image.png" / "inside.png")
    assert judge(run, folder, "inside", DONE)["path"] == "image.png/inside.png"


@pytest.mark.parametrize(
    "name", ["two\nlines.png", "tab\t.png", "Röntgen 胸部.png", " spaces .png", "-o.png"]
)
def test_odd_names_are_kept(run, folder, name):
    GREY.save(folder / name)
    assert judge(run, folder, name.removesuffix(".png"), DONE)["path"] == name


def test_a_message_with_an_odd_name_is_one_line(run, folder):
    (folder / "two\nlines.png").write_bytes(b"words")
    _, result = run()
    assert result.exit_code == 1 and result.stderr.count("\n") == 1


def test_a_name_that_is_no_text_is_put_aside(run, folder):
    GREY.save(folder / "image.png")
    os.rename(folder / "image.png", os.fsencode(folder) + b"/image\xff.png")
    done, result = run()
    assert result.exit_code == 1 and "not UTF-8" in result.stderr and result.stderr.count("\n") == 1
    done, result = run("--rejects", str(folder.parent / "rejects.jsonl"))
    assert result.exit_code == 0 and done.keys() == {"a_good", "z_good"}


def test_a_list_in_another_alphabet_is_one_line(run, folder):
    (folder.parent / "list.txt").write_bytes("a_good.png\n".encode("utf-16"))
    _, result = run(source=folder.parent / "list.txt")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
