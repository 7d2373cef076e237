"""DICOM files: their pixels, windows and headers, and files that are damaged."""

import io
import sys

import numpy as np
import pydicom
import pytest
from dicom_files import dicom
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

from medground import dicom as medground_dicom
from medground import images, limits
from medground.errors import MedgroundError

RAMP = np.linspace(0, 255, 60 * 40).astype(np.uint8).reshape(60, 40)
DEEP = np.linspace(0, 65535, 60 * 40).astype(np.uint16).reshape(60, 40)


def test_dicom_is_recognized_by_its_bytes(tmp_path):
    image = images.load(dicom(tmp_path / "image.png", RAMP))
    assert image == pytest.approx(RAMP / 255, abs=1e-6)


JPEG_2000 = {  # name -> (stored values, bits, whether they are signed)
    "8 bits": (RAMP, 8, False),
    "12 bits": (DEEP >> 4, 12, False),
    "16 bits": (DEEP, 16, False),
    "signed": (DEEP, 16, True),
    "color": (np.stack([RAMP, RAMP[::-1], RAMP // 2], axis=2), 8, False),
}


@pytest.mark.parametrize("kind", JPEG_2000)
def test_jpeg_2000_has_the_same_pixels_by_pil_and_by_gdcm(kind, tmp_path, monkeypatch):
    values, bits, signed = JPEG_2000[kind]
    stream, path = io.BytesIO(), tmp_path / "a.dcm"
    Image.fromarray(values).save(stream, "JPEG2000", no_jp2=True, mct=0)
    data = pydicom.dcmread(dicom(path, values, bits=bits))
    data.PixelRepresentation = int(signed)
    data.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
    data.PixelData = pydicom.encaps.encapsulate([stream.getvalue()])
    data["PixelData"].VR = "OB"
    data.save_as(path)
    by_pil = images.load(path)
    monkeypatch.setattr(medground_dicom, "JPEG_2000", ())
    assert np.array_equal(images.load(path), by_pil)
    assert by_pil.std() > 0.05


def test_monochrome1_is_turned_round(tmp_path):
    image = images.load(dicom(tmp_path / "a.dcm", RAMP, PhotometricInterpretation="MONOCHROME1"))
    assert image == pytest.approx(1 - RAMP / 255, abs=1e-6)


def test_a_window_is_applied(tmp_path):
    path = dicom(tmp_path / "a.dcm", DEEP // 16, bits=12, WindowCenter=2048, WindowWidth=1024)
    image, stored = images.load(path), DEEP // 16
    assert image[stored < 1530].max() == 0 and image[stored > 2566].min() == 1
    middle = (stored > 1600) & (stored < 2500)
    assert image[middle] == pytest.approx((stored[middle] - 1536) / 1024, abs=0.003)


def test_rescale_comes_before_the_window(tmp_path):
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 3096, "WindowWidth": 2048}
    image, stored = images.load(dicom(tmp_path / "a.dcm", DEEP // 16, bits=12, **tags)), DEEP // 16
    middle = (stored > 1600) & (stored < 2500)
    assert image[middle] == pytest.approx((stored[middle] - 1536) / 1024, abs=0.003)


def test_a_voi_lut_is_applied(tmp_path):
    item = pydicom.Dataset()
    item.LUTDescriptor, item.LUTExplanation = [256, 0, 8], "turn"
    item.LUTData = list(range(255, -1, -1))
    item["LUTData"].VR = "US"
    image = images.load(dicom(tmp_path / "a.dcm", RAMP, VOILUTSequence=pydicom.Sequence([item])))
    assert image == pytest.approx(1 - RAMP / 255, abs=0.01)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15, 16])
def test_any_depth_fills_the_range(tmp_path, bits):
    stored = (DEEP >> (16 - bits)).astype(np.uint8 if bits == 8 else np.uint16)
    image = images.load(dicom(tmp_path / "a.dcm", stored, bits=bits))
    assert image == pytest.approx(stored / stored.max(), abs=1e-4)


def test_signed_values_are_read(tmp_path):
    image = images.load(dicom(tmp_path / "a.dcm", (DEEP.astype(int) // 2 - 16000).astype(np.int16)))
    assert image == pytest.approx(DEEP / 65535, abs=1e-3)


def test_colour_dicom_becomes_grey(tmp_path):
    image = images.load(dicom(tmp_path / "a.dcm", np.stack([RAMP] * 3, axis=-1)))
    assert image == pytest.approx(RAMP / 255, abs=0.01)


def test_the_header_says_spacing_and_view(tmp_path):
    tags = {"PixelSpacing": [0.14, 0.15], "ViewPosition": "PA"}
    path = dicom(tmp_path / "a.dcm", RAMP, **tags)
    assert images.describe(path) == images.Header(40, 60, (0.14, 0.15), "PA")
    assert images.describe(dicom(path, RAMP, PixelSpacing=[0, 0])).spacing is None


def test_a_dicom_without_a_picture_is_said(tmp_path):
    path = dicom(tmp_path / "a.dcm", RAMP)
    data = pydicom.dcmread(path)
    del data.PixelData
    data.save_as(path)
    with pytest.raises(MedgroundError, match=r"a\.dcm: a DICOM file without an image"):
        images.load(path)


def test_a_truncated_dicom_is_one_line(tmp_path):
    path = dicom(tmp_path / "a.dcm", RAMP)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(MedgroundError, match=r"a\.dcm: damaged or truncated"):
        images.load(path)


@pytest.mark.parametrize("kept", [150, 380, 400])  # in the header of the file, before Rows, after Rows
def test_a_dicom_truncated_before_its_pixels_may_be_truncated(tmp_path, kept):
    path = dicom(tmp_path / "a.dcm", RAMP)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(MedgroundError, match=r"a\.dcm: a DICOM file without an image; is it truncated\?"):
        images.load(path)


def test_a_dicom_of_a_class_without_images_is_not_truncated(tmp_path):
    path = dicom(tmp_path / "a.dcm", RAMP)
    data = pydicom.dcmread(path)
    del data.PixelData, data.Rows
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = pydicom.uid.BasicTextSRStorage
    data.save_as(path)
    with pytest.raises(MedgroundError, match=r"a\.dcm: a DICOM file without an image$"):
        images.load(path)


def test_dicom_without_pydicom_names_the_extra(tmp_path, monkeypatch):
    path = dicom(tmp_path / "a.dcm", RAMP)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MedgroundError, match=r"pip install medground\[dicom\]"):
        images.load(path)


@pytest.mark.slow
def test_real_dicom_images_are_bright_where_the_body_is(shared):
    folder = shared / "data" / "dicom"
    for path in sorted(folder.glob("*.dcm")):
        image = images.load(path)
        assert images.size(path) == image.shape[::-1]
        height, width = image.shape
        if "tibia" in path.name:
            continue
        spine = image[height // 3 : height // 2, width * 9 // 20 : width * 11 // 20].mean()
        lung = image[height // 3 : height // 2, width // 4 : width * 3 // 8].mean()
        assert spine > lung + 0.1


def half(tmp_path, **tags):
    """The 12-bit ramp 0 ... 4095 as a DICOM file with these tags, loaded."""
    ramp = np.linspace(0, 4095, 60 * 40).astype(np.uint16).reshape(60, 40)
    return images.load(dicom(tmp_path / "a.dcm", ramp, 12, **tags)), ramp


WHOLE = {"zero": (0, 0), "negative": (2000, -3000)}


@pytest.mark.parametrize("name", WHOLE)
def test_a_window_that_the_standard_does_not_allow_is_passed_over(name, tmp_path):
    center, width = WHOLE[name]
    shown, ramp = half(tmp_path, WindowCenter=center, WindowWidth=width)
    assert np.allclose(shown, ramp / 4095, atol=1e-6)


def test_the_first_allowed_window_of_several_counts(tmp_path):
    shown, _ = half(tmp_path, WindowCenter=[0, 1000], WindowWidth=[0, 1001])
    alone, _ = half(tmp_path, WindowCenter=1000, WindowWidth=1001)
    assert np.array_equal(shown, alone) and 0.3 < (shown == 1).mean() < 0.7


def test_a_window_below_one_on_rescaled_values_is_taken_exactly(tmp_path):
    slope = 1 / 4095
    tags = {"RescaleSlope": f"{slope:.12f}", "RescaleIntercept": 0, "WindowCenter": 0.5, "WindowWidth": 0.5}
    shown, ramp = half(tmp_path, **tags)
    assert np.allclose(shown, np.clip((ramp * slope - 0.25) / 0.5, 0, 1), atol=1e-4)


@pytest.mark.parametrize("limit", [None, 60000])
def test_declared_padding_is_black_and_not_part_of_the_range(limit, tmp_path):
    values = np.linspace(1000, 3000, 60 * 40).astype(np.uint16).reshape(60, 40)
    values[:10] = 65535
    values[10:12] = 65535 if limit is None else 62000
    tags = {"PixelPaddingValue": 65535} | ({"PixelPaddingRangeLimit": limit} if limit else {})
    for name in ("MONOCHROME2", "MONOCHROME1"):
        shown = images.load(dicom(tmp_path / "a.dcm", values, PhotometricInterpretation=name, **tags))
        assert (shown[:12] == 0).all()
        inside = values[12:].astype(float)
        expected = (inside - inside.min()) / (inside.max() - inside.min())
        expected = 1 - expected if name == "MONOCHROME1" else expected
        assert np.allclose(shown[12:], expected, atol=1e-5)


def test_an_inverse_presentation_is_inverted_once(tmp_path):
    plain, _ = half(tmp_path)
    for name in ("MONOCHROME1", "MONOCHROME2"):
        tags = {"PhotometricInterpretation": name, "PresentationLUTShape": "INVERSE"}
        assert np.allclose(half(tmp_path, **tags)[0], 1 - plain)


@pytest.mark.parametrize("spacing", ["0.1", ["0", "1"], ["-1", "1"], ""])
def test_a_spacing_that_is_none_leaves_the_image_sound(spacing, tmp_path):
    path = dicom(tmp_path / "a.dcm", DEEP, PixelSpacing=spacing)
    assert images.describe(path).spacing is None
    assert images.load(path).shape == DEEP.shape


def test_a_value_of_a_wrong_length_is_one_line(tmp_path):
    path = dicom(tmp_path / "a.dcm", DEEP)
    raw = path.read_bytes()
    columns = b"\x28\x00\x11\x00US"
    at = raw.index(columns)
    path.write_bytes(raw[: at + 6] + b"\x03\x00" + raw[at + 8 : at + 10] + b"\x00" + raw[at + 10 :])
    for read in (images.load, images.describe):
        with pytest.raises(MedgroundError, match=r"a\.dcm: damaged"):
            read(path)


@pytest.mark.parametrize("read", [images.load, images.describe])
def test_a_deflated_file_that_unpacks_to_too_much_is_refused(read, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MAX_UNPACKED", 100_000)
    for side, fits in ((100, True), (400, False)):
        values = np.zeros((side, side), np.uint16)
        path = dicom(tmp_path / "a.dcm", values)
        data = pydicom.dcmread(path)
        data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        data.save_as(path, enforce_file_format=True)
        if fits:
            read(path)
        else:
            with pytest.raises(MedgroundError, match="unpacks to more than"):
                read(path)


@pytest.mark.parametrize("window", [{}, {"WindowCenter": 2048, "WindowWidth": 1000}])
@pytest.mark.parametrize("low_bits", [0, 7])
@pytest.mark.parametrize("kind", [np.uint16, np.int16])
def test_values_in_the_upper_bits_are_shifted_down(kind, low_bits, window, tmp_path):
    values = (DEEP >> 4).astype(np.int32) - (2048 if kind is np.int16 else 0)
    plain = dicom(tmp_path / "plain.dcm", values.astype(kind), 12, **window)
    upper = dicom(tmp_path / "upper.dcm", ((values << 4) | low_bits).astype(kind), 12, HighBit=15, **window)
    assert (images.load(upper) == images.load(plain)).all()


def test_padding_is_compared_with_the_shifted_values(tmp_path):
    values = (DEEP >> 4) // 2
    values[:5] = 4095
    plain = dicom(tmp_path / "plain.dcm", values, 12, PixelPaddingValue=4095)
    upper = dicom(tmp_path / "upper.dcm", values << 2, 12, HighBit=13, PixelPaddingValue=4095)
    assert (images.load(upper) == images.load(plain)).all()


@pytest.mark.parametrize(("bits", "high"), [(12, 0), (12, 10), (12, 16), (12, 300), (0, 15), (17, 15)])
def test_bits_that_cannot_be_are_one_message(bits, high, tmp_path):
    path = dicom(tmp_path / "image.dcm", DEEP >> 4, BitsStored=bits, HighBit=high)
    with pytest.raises(MedgroundError, match=r"image.dcm: HighBit: expected BitsStored - 1"):
        images.load(path)


def test_the_place_of_compressed_values_is_not_guessed(tmp_path):
    path = dicom(tmp_path / "image.dcm", RAMP)
    data = pydicom.dcmread(path)
    data.compress(pydicom.uid.RLELossless)
    data.BitsStored = 6
    data.save_as(path)
    with pytest.raises(MedgroundError, match="HighBit: expected BitsStored - 1"):
        images.load(path)


@pytest.mark.parametrize(("slope", "intercept"), [("0", "0"), ("nan", "0"), ("1e400", "0"), ("1", "-inf")])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": "1000", "WindowWidth": "500"}])
def test_a_scale_that_no_image_has_is_passed_over(slope, intercept, window, tmp_path):
    with pydicom.config.disable_value_validation():
        tags = {"RescaleSlope": slope, "RescaleIntercept": intercept, **window}
        path = dicom(tmp_path / "image.dcm", DEEP, **tags)
    assert (images.load(path) == images.load(dicom(tmp_path / "plain.dcm", DEEP))).all()


@pytest.mark.parametrize("window", [("0", "1e308"), ("-90000", "100"), ("1e9", "2")])
def test_a_window_that_leaves_one_grey_is_passed_over(window, tmp_path):
    center, width = window
    path = dicom(tmp_path / "image.dcm", DEEP, WindowCenter=center, WindowWidth=width)
    assert (images.load(path) == images.load(dicom(tmp_path / "plain.dcm", DEEP))).all()
    both = dicom(tmp_path / "both.dcm", DEEP, WindowCenter=[center, "1000"], WindowWidth=[width, "500"])
    second = dicom(tmp_path / "second.dcm", DEEP, WindowCenter="1000", WindowWidth="500")
    assert (images.load(both) == images.load(second)).all()


def test_an_inverse_presentation_in_small_letters_is_inverted(tmp_path):
    with pydicom.config.disable_value_validation():
        path = dicom(tmp_path / "image.dcm", DEEP, PresentationLUTShape="inverse")
    assert images.load(path) == pytest.approx(1 - images.load(dicom(tmp_path / "plain.dcm", DEEP)), abs=1e-6)
