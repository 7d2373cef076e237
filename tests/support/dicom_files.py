"""DICOM files with chosen pixels and tags, and what `render` writes about them."""

import json

import numpy as np
from click.testing import CliRunner
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from medground.cli.main import cli


def dicom(path, values, bits=None, **tags):
    """Write a DICOM file with these stored values and tags; return its path."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    data.Rows, data.Columns = values.shape[:2]
    data.BitsAllocated = 8 * values.itemsize
    data.BitsStored = bits or data.BitsAllocated
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(values.dtype.kind == "i")
    data.SamplesPerPixel = 1 if values.ndim == 2 else 3
    if values.ndim == 3:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = "MONOCHROME2" if values.ndim == 2 else "RGB"
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = values.tobytes()
    data["PixelData"].VR = "OW"
    data.save_as(path, enforce_file_format=True)
    return path


def objects(folder, images):
    """Write a DICOM image into `images`, and a box on it as `folder`/reports and `folder`/segmentations."""
    images.mkdir(exist_ok=True)
    tags = {"StudyInstanceUID": "1.2.4", "SeriesInstanceUID": "1.2.5", "Modality": "CR", "PatientID": "p90"}
    dicom(images / "image0.dcm", np.tile(np.arange(64, dtype=np.uint8), (64, 1)), **tags)
    boxes = [{"box": [10, 20, 30, 40], "score": 0.5}]
    found = {"image_id": "image0", "phrase_id": "image0|1", "text": "opacity", "boxes": boxes}
    found |= {"present": 0.5, "model": "a"}
    for kind, name in (("dicom-sr", "reports"), ("dicom-seg", "segmentations")):
        words = ["render", "-", "--images", str(images), "--output-format", kind, "-o", str(folder / name)]
        done = CliRunner().invoke(cli, words, input=json.dumps(found) + "\n")
        assert done.exit_code == 0, done.output
