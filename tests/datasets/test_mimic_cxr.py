import io

import pytest
from mimic_files import METADATA, SPLIT
from taken import Taken

from medground.datasets import mimic_cxr
from medground.errors import BadRecord, MedgroundError


def stream(text):
    return io.BytesIO(text.encode())


@pytest.fixture
def tree(tmp_path):
    for place, text in {
        "files/p10/p10000032/s50414267.txt": " FINDINGS:\n Clear lungs.\n",
        "files/p10/p10000032/s53189527.txt": "\ufeffIMPRESSION: ___",
        "files/p10/p10000764/s57375967.txt": "",
        "LICENSE.txt": "not a report",
    }.items():
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def test_a_report_tree_gives_study_and_patient(tree):
    reports = list(mimic_cxr.read_reports(tree))
    assert [(each.study_id, each.subject_id) for each in reports] == [
        ("s50414267", "p10000032"),
        ("s53189527", "p10000032"),
        ("s57375967", "p10000764"),
    ]
    assert [each.text for each in reports] == [" FINDINGS:\n Clear lungs.\n", "IMPRESSION: ___", ""]


def test_one_report_file_is_a_tree_of_one(tree):
    [report] = mimic_cxr.read_reports(tree / "files/p10/p10000032/s50414267.txt")
    assert (report.study_id, report.subject_id) == ("s50414267", "p10000032")


def test_reports_that_are_not_utf8_are_read_as_the_parser_reads_them(tree, caplog):
    other, whole = (tree / f"files/p10/p10000032/{name}.txt" for name in ("s53189527", "s50414267"))
    other.write_bytes(b"caf\xe9 \x96 na\xefve")
    whole.write_bytes("No effusion.".encode("utf-16"))
    taken = Taken()
    texts = {each.study_id: each.text for each in mimic_cxr.read_reports(tree, taken)}
    assert texts["s53189527"] == "caf\xe9 \N{EN DASH} na\xefve" and texts["s50414267"] == "No effusion."
    assert not taken and "such reports are read as Windows-1252" in caplog.text


def test_reports_carry_the_split_of_their_study(tree):
    splits = mimic_cxr.read_splits(stream(SPLIT))
    reports = list(mimic_cxr.read_reports(tree, splits=splits))
    assert [each.extra for each in reports] == [{"split": "train"}, {}, {"split": "validate"}]


@pytest.mark.parametrize("index", ["", "0,"])
def test_sections_are_read_with_or_without_an_index(index):
    header = ("," if index else "") + "study,impression,findings,last_paragraph,comparison,site\n"
    [report] = mimic_cxr.read_sectioned(stream(header + index + 's50414267,"No\nchange.",, , None,x\n'))
    assert (report.study_id, report.impression, report.findings) == ("s50414267", "No\nchange.", None)
    assert (report.last_paragraph, report.comparison, report.extra) == (None, "None", {"site": "x"})


def test_the_image_list_gives_sizes_views_and_paths():
    first, second, third = mimic_cxr.read_images(
        stream(METADATA), splits=mimic_cxr.read_splits(stream(SPLIT))
    )
    assert (first.width, first.height, first.view, first.regions) == (2544, 3056, "PA", [])
    assert first.path == "files/p10/p10000032/s50414267/02aa804e-bde0afdd.jpg"
    assert (first.study_id, first.subject_id) == ("s50414267", "p10000032")
    assert [each.is_frontal for each in (first, second, third)] == [True, False, True]
    assert [each.extra for each in (first, second, third)] == [
        {"split": "train"},
        {},
        {"split": "validate"},
    ]


def test_an_image_without_a_size_is_rejected_with_its_place():
    taken = Taken()
    found = list(mimic_cxr.read_images(stream(METADATA.replace("3056,2544", ",2544", 1)), taken))
    assert len(found) == 2
    assert [message for _, message in taken] == ["<stdin>:2: Rows: expected a number"]
    with pytest.raises(BadRecord, match="<stdin>:2: Rows: expected a number of pixels above 0"):
        list(mimic_cxr.read_images(stream(METADATA.replace("3056,2544", "0,2544", 1))))


def test_another_table_is_refused():
    with pytest.raises(MedgroundError, match="is this mimic-cxr"):
        list(mimic_cxr.read_images(stream(SPLIT)))


@pytest.mark.parametrize("written", ["50414267", "s50414267", "50414267.0", " 50414267 "])
def test_a_study_has_one_name_however_it_is_written(written):
    assert mimic_cxr.study_id(written) == "s50414267"


def test_ids_of_other_places_are_left_alone():
    assert mimic_cxr.study_id("visit-7") == "visit-7"
    assert mimic_cxr.ids_in("images/7.png") == (None, None)
