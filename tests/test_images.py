"""Images in: every kind of file that holds one, and every kind of file that does not."""

import io
import struct
import subprocess
import sys
import threading
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medground import images
from medground.errors import MedgroundError

RAMP = np.linspace(0, 255, 60 * 40).astype(np.uint8).reshape(60, 40)
DEEP = np.linspace(0, 65535, 60 * 40).astype(np.uint16).reshape(60, 40)


@pytest.fixture
def save(tmp_path):
    """Save a picture under a name; returns its path."""

    def write(picture, name="image.png", **how):
        path = tmp_path / name
        picture.save(path, **how)
        return path

    return write


def test_eight_bits_are_divided_by_255(save):
    image = images.load(save(Image.fromarray(RAMP)))
    assert image.dtype == np.float32 and image.shape == (60, 40)
    assert np.array_equal(image, RAMP.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("name", ["image.png", "image.tif", "image.bmp", "image.webp"])
def test_lossless_kinds_agree(save, name):
    how = {"lossless": True} if name.endswith("webp") else {}
    path = save(Image.fromarray(RAMP).convert("RGB" if "webp" in name else "L"), name, **how)
    assert images.load(path) == pytest.approx(RAMP / 255, abs=1e-6)


def test_jpeg_is_near(save):
    assert images.load(save(Image.fromarray(RAMP), "image.jpg", quality=95)) == pytest.approx(
        RAMP / 255, abs=0.03
    )


@pytest.mark.parametrize("name", ["image.png", "image.tif"])
def test_sixteen_bits_fill_the_range(save, name):
    assert images.load(save(Image.fromarray(DEEP), name)) == pytest.approx(DEEP / 65535, abs=1e-4)


def test_twelve_bits_in_sixteen_are_not_dark(save):
    image = images.load(save(Image.fromarray(DEEP // 16)))
    assert image.max() == 1 and image.min() == 0


def test_floats_are_stretched_and_gaps_are_filled(save):
    values = DEEP.astype(np.float32) - 1000
    values[0, 0] = np.nan
    image = images.load(save(Image.fromarray(values), "image.tif"))
    assert np.isfinite(image).all() and image.min() == 0 and image.max() == 1


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "YCbCr", "P", "LA", "RGBA", "1"])
def test_colour_becomes_grey(save, mode):
    name = "image.tif" if mode in ("CMYK", "YCbCr") else "image.png"
    grey = RAMP if mode != "1" else np.where(RAMP > 127, 255, 0).astype(np.uint8)
    image = images.load(save(Image.fromarray(grey).convert(mode), name))
    assert image.shape == RAMP.shape
    assert image == pytest.approx(grey / 255, abs=0.03)


def test_transparency_is_black(save):
    picture = Image.fromarray(RAMP).convert("RGBA")
    picture.putalpha(Image.fromarray(np.where(RAMP > 200, 0, 255).astype(np.uint8)))
    image = images.load(save(picture))
    assert image[RAMP > 200].max() == 0 and image[RAMP == 200].min() > 0.7


def test_a_transparent_palette_colour_is_black(save):
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), mode=None).convert("P")
    picture.putpalette([255, 255, 255, 200, 200, 200] + [0] * 762)
    image = images.load(save(picture, transparency=bytes([0, 255])))
    assert image[0, 0] == 0 and image[0, 1] == pytest.approx(200 / 255)


def test_a_constant_image_is_no_division_by_zero(save):
    assert images.load(save(Image.fromarray(np.full((4, 4), 9, np.uint16)))).max() == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright(save, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.fromarray(RAMP), "image.png", exif=exif)
    height, width = images.load(path).shape
    assert images.size(path) == (width, height) == ((40, 60) if orientation < 5 else (60, 40))
    if orientation == 6:
        assert images.load(path) == pytest.approx(np.rot90(RAMP, -1) / 255, abs=1e-6)


def test_the_first_of_several_frames_counts(tmp_path):
    path = tmp_path / "image.tif"
    Image.fromarray(RAMP).save(path, save_all=True, append_images=[Image.fromarray(255 - RAMP)])
    assert images.load(path) == pytest.approx(RAMP / 255, abs=1e-6)


def test_size_does_not_decode(save):
    path = save(Image.fromarray(RAMP))
    path.write_bytes(path.read_bytes()[:80])  # the header is whole, the picture is not
    assert images.size(path) == (40, 60)


# Bad input


def png(width: int, height: int) -> bytes:
    """A PNG that promises this many pixels and holds none."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + head
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return header + struct.pack(">I", 1000) + b"IDAT" + bytes(8)


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RAMP).resize((300, 300)).save(buffer, kind)
    return buffer.getvalue()


BROKEN = {
    "empty": b"",
    "words": b"no acute process\n",
    "zeros": bytes(4096),
    "noise": np.random.default_rng(0).bytes(4096),
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
    "json": b'{"image_id": "a"}',
    "gzip": b"\x1f\x8b\x08\x00" + bytes(64),
    "zip": b"PK\x03\x04" + bytes(64),
    "pdf": b"%PDF-1.7\n" + bytes(64),
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "png head alone": encoded("PNG")[:8],
    "png cut in its header": encoded("PNG")[:20],
    "png cut in its picture": encoded("PNG")[:200],
    "png without its end": encoded("PNG")[: -len(encoded("PNG")) // 3],
    "png of another checksum": encoded("PNG")[:20] + b"\x01" + encoded("PNG")[21:],
    "png without pixels": png(0, 0),
    "png bomb": png(30_000, 30_000),
    "png small bomb": png(9_500, 9_500),
    "jpeg head alone": encoded("JPEG")[:4],
    "jpeg cut": encoded("JPEG")[:1000],
    "jpeg cut in its tables": encoded("JPEG")[:100],
    "tiff cut": encoded("TIFF")[:1000],
    "tiff head alone": encoded("TIFF")[:8],
    "bmp cut": encoded("BMP")[:500],
    "webp cut": encoded("WEBP")[:100],
    "gif cut": encoded("GIF")[:50],
    "dicom head alone": bytes(128) + b"DICM",
    "dicom with noise": bytes(128) + b"DICM" + np.random.default_rng(1).bytes(500),
    "dicom cut in its head": bytes(128) + b"DICM\x02\x00\x00\x00UL\x04",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_image_is_one_line_with_its_name(tmp_path, kind):
    path = tmp_path / "image.png"
    path.write_bytes(BROKEN[kind])
    with pytest.raises(MedgroundError, match=r"image\.png: ") as caught:
        images.load(path)
    assert "\n" not in str(caught.value)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(MedgroundError, match=r"image\.png: No such file or directory"):
        images.load(tmp_path / "image.png")
    with pytest.raises(MedgroundError, match="Is a directory"):
        images.load(tmp_path)


def test_a_bomb_is_recognized_by_its_header(tmp_path):
    (tmp_path / "image.png").write_bytes(png(30_000, 30_000))
    with pytest.raises(MedgroundError, match="more than 80 million pixels"):
        images.size(tmp_path / "image.png")


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5000), st.integers(0, 255), st.sampled_from(["PNG", "JPEG", "TIFF", "BMP"]))
def test_one_wrong_byte_gives_an_image_or_a_message(tmp_path_factory, place, value, kind):
    path = tmp_path_factory.getbasetemp() / "image"
    data = bytearray(encoded(kind))
    data[place % len(data)] = value
    path.write_bytes(data)
    try:
        image = images.load(path)
    except MedgroundError as error:
        assert str(path) in str(error)
    else:
        assert image.ndim == 2 and image.min() >= 0 and image.max() <= 1


def test_threads_leave_the_warning_filters_as_they_were(save, tmp_path):
    good, before = save(Image.fromarray(RAMP)), list(warnings.filters)
    (tmp_path / "bad.png").write_bytes(b"no image")

    def work():
        for _ in range(30):
            images.load(good)
            with pytest.raises(MedgroundError):
                images.load(tmp_path / "bad.png")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert list(warnings.filters) == before


# Letterbox


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.sampled_from([8, 32, 64]))
def test_a_letterbox_is_black_around_the_image(height, width, size):
    square, place = images.letterbox(np.full((height, width), 0.5, np.float32), size)
    (x, y), (wide, high) = place.offset, place.inner
    assert square.shape == (size, size) and square.dtype == np.float32
    assert square[y : y + high, x : x + wide] == pytest.approx(0.5, abs=1e-6)
    assert square.sum() == pytest.approx(0.5 * wide * high, rel=1e-5)


def test_a_box_on_the_image_lies_on_the_same_pixels_of_the_square():
    image = np.zeros((200, 300), np.float32)
    image[40:120, 90:210] = 1
    square, place = images.letterbox(image, 100)
    x1, y1, x2, y2 = place.to_square(np.array([[90.0, 40, 210, 120]]))[0]
    assert square[int(np.ceil(y1)) + 1 : int(y2) - 1, int(np.ceil(x1)) + 1 : int(x2) - 1].min() > 0.99
    assert square.sum() == pytest.approx((x2 - x1) * (y2 - y1), rel=0.01)


def test_shrinking_averages_and_makes_no_pattern():
    checks = np.indices((1024, 1024)).sum(axis=0) % 2
    square, _ = images.letterbox(checks.astype(np.float32), 64)
    assert square[2:-2, 2:-2] == pytest.approx(0.5, abs=0.02)


def test_names_of_images_are_known():
    assert images.is_image("a/b.PNG") and images.is_image("x.dcm") and images.is_image("x.jpeg")
    assert not images.is_image("x.txt") and not images.is_image("png")


def test_only_readers_of_the_formats_that_are_opened_are_imported(save):
    """The others take time, and one of them starts another program."""
    path = save(Image.fromarray(RAMP))
    code = "import sys; from medground import images; images.open_picture(sys.argv[1]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert "PIL.TiffImagePlugin" in done.stdout and "PIL.EpsImagePlugin" not in done.stdout
