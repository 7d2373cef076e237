"""DICOM files with chosen pixels and tags."""

from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian


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
