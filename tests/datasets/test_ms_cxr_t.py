"""MS-CXR-T: a phrase for each finding with a progression."""

import io

import pytest
from taken import Taken

from medground.datasets import ms_cxr_t
from medground.errors import BadRecord, MedgroundError

HEADER = "dicom_id,previous_dicom_id,subject_id,study_id," + ",".join(
    f"{each}_progression" for each in ms_cxr_t.FINDINGS
)
PATH = "files/p10/p10000032/s50414267/"


def read(*rows, take=None, header=HEADER):
    source = io.BytesIO("\n".join([header, *rows]).encode() + b"\n")
    return list(ms_cxr_t.read(source, *([] if take is None else [take])))


def test_each_progression_is_a_phrase_without_boxes():
    row = f"{PATH}new,files/p10/p10000032/s50414266/old,,,worsening,,stable,,"
    first, second = read(row)
    assert (first.text, first.category, first.boxes) == ("worsening consolidation", "consolidation", None)
    assert (first.image_id, first.phrase_id, first.path) == ("new", "new|consolidation", f"{PATH}new.jpg")
    assert (first.subject_id, first.extra["study_id"]) == ("p10000032", "s50414267")
    assert first.extra["previous_image_id"] == "old" and first.extra["previous_path"].endswith("/old.jpg")
    assert (second.text, second.extra["progression"]) == ("stable pleural effusion", "stable")


def test_the_path_of_a_plain_id_follows_from_subject_and_study():
    [phrase] = read("new,old,10000032,50414267,,Improving,,,")
    assert (phrase.path, phrase.text) == (f"{PATH}new.jpg", "improving edema")
    assert "previous_path" not in phrase.extra
    with pytest.raises(BadRecord, match="dicom_id: expected a path, or the columns subject_id and study_id"):
        read("new,old,,,stable,,,,")


def test_another_word_and_another_file_are_refused():
    with pytest.raises(
        BadRecord, match=r"edema_progression: expected improving, stable, worsening or nothing"
    ):
        read(f"{PATH}new,old,,,,better,,,")
    taken = Taken()
    assert len(read(f"{PATH}new,old,,,,better,,,", f"{PATH}new,old,,,,stable,,,", take=taken)) == 1
    with pytest.raises(
        MedgroundError, match="no column 'consolidation_progression'; is this MS_CXR_T_temporal"
    ):
        read(header="dicom_id,previous_dicom_id")
