"""Reports from tables, text files and trees, with all the dirt that they bring."""

import io
import logging

import pytest

from medground.encodings import as_utf8, utf16
from medground.errors import BadRecord, MedgroundError
from medground.reports.input import Columns, read_one, read_table, read_tree
from medground.reports.input_kind import kind_of


def table(content: bytes, columns: Columns | None = None, take=None):
    lines = content.splitlines(keepends=True)
    return (
        list(read_table(lines, "t.csv", columns, take)) if take else list(read_table(lines, "t.csv", columns))
    )


class Kept:
    """What `take` was given: lines and messages."""

    def __init__(self):
        self.lines, self.messages = [], []

    def __call__(self, line: bytes, bad: BadRecord):
        self.lines.append(line)
        self.messages.append(str(bad))


def test_columns_are_found_by_their_names():
    report = table(b"Study_ID,subject_id,site,Report\ns1,p1,A,Lungs clear.\n")[0]
    assert (report.study_id, report.subject_id, report.text) == ("s1", "p1", "Lungs clear.")
    assert report.extra == {"site": "A"}


def test_sections_are_read_as_sections():
    report = table(b"study,impression,findings,last_paragraph,comparison\ns50,Normal.,,,\n")[0]
    assert (report.study_id, report.impression, report.findings) == ("s50", "Normal.", None)


def test_columns_may_be_named():
    columns = Columns(text="Befund", study="Nr")
    assert table(b"Nr;Befund\n7;Kein Erguss.\n", columns)[0].study_id == "7"
    columns = Columns(sections={"findings": "Befund", "impression": "Beurteilung"})
    report = table(b"id,Befund,Beurteilung\n7,a b,c d\n", columns)[0]
    assert (report.findings, report.impression) == ("a b", "c d")


def test_a_column_that_is_not_there_is_said_with_those_that_are():
    with pytest.raises(MedgroundError, match=r"t.csv: no column 'x'; line 1 has id, text"):
        table(b"id,text\n", Columns(text="x"))
    with pytest.raises(MedgroundError, match="--text-column"):
        table(b"id,words\n1,a\n")


def test_a_header_that_is_report_text_is_not_quoted():
    with pytest.raises(MedgroundError) as problem:
        table(b"The patient Jane Doe was seen, and her lungs were found to be clear of any disease\n1,2\n")
    assert "Jane" not in str(problem.value)


def test_bom_crlf_and_quoted_newlines_are_no_part_of_the_trouble():
    report = table(b'\xef\xbb\xbfid,text\r\n1,"Lungs\r\nclear, ""normal""."\r\n')[0]
    assert report.text == 'Lungs\r\nclear, "normal".'


def test_windows_1252_is_read_with_one_warning(caplog):
    with caplog.at_level(logging.WARNING):
        reports = table("id,text\n1,Ödem\n2,Müller\n".encode("cp1252"))
    assert [each.text for each in reports] == ["Ödem", "Müller"]
    assert (
        len(caplog.records) == 1 and "t.csv:2: not UTF-8; such lines are read as Windows-1252" in caplog.text
    )


def test_rows_without_text_are_passed_over_and_counted(caplog):
    assert [each.study_id for each in table(b"id,text\n1,\n2,clear\n3,  \n")] == ["2"]
    assert "t.csv:2: no report text; 2 such in all" in caplog.text


def test_rows_without_an_id_are_numbered(caplog):
    assert [each.study_id for each in table(b"site,text\nA,clear\nB,clear\n")] == ["row-1", "row-2"]
    assert "--id-column" in caplog.text


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (b'2,"open\n', "a quote is opened"),
        (b'2,"a" b\n', "quote"),
        (b"2,a,b\n", "expected 2 cells"),
        (b"2\n", "expected 2 cells"),
        (b"\x00\x01\x02\n", "binary"),
    ],
)
@pytest.mark.parametrize("after", [b'3,"Lungs, clear"\n4,clear\n', b"3,clear\n4,clear\n"])
def test_a_bad_row_costs_no_good_one(bad, problem, after):
    kept = Kept()
    reports = table(b"id,text\n1,clear\n" + bad + after, take=kept)
    assert [each.study_id for each in reports] == ["1", "3", "4"]
    assert kept.lines == [bad] and len(kept.messages) == 1
    assert kept.messages[0].startswith("t.csv:3: ") and problem in kept.messages[0]


def test_without_take_the_first_bad_row_ends_the_run():
    with pytest.raises(BadRecord, match=r"^t.csv:2: expected 2 cells"):
        table(b"id,text\n1,a,b\n")


def test_two_open_quotes_cost_two_rows():
    kept = Kept()
    reports = table(b'id,text\n1,"open\n2,clear\n3,"open too\n4,"a, b"\n', take=kept)
    assert [each.study_id for each in reports] == ["2", "4"]
    assert kept.lines == [b'1,"open\n', b'3,"open too\n']


def test_nothing_but_bad_rows_is_an_error():
    with pytest.raises(MedgroundError, match="every row was rejected"):
        table(b"id,text\n1,a,b\n", take=Kept())


@pytest.mark.slow
def test_a_report_of_ten_megabytes_is_a_report():
    text = b"Lungs clear.\n" * 800_000
    assert len(table(b'id,text\n1,"' + text + b'"\n2,a\n')[0].text) == len(text)


def test_a_table_is_read_row_by_row():
    def lines():
        yield b"id,text\n"
        yield b"1,clear\n"
        raise AssertionError("read too far")

    assert next(iter(read_table(lines(), "t.csv"))).study_id == "1"


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "files" / "p10" / "p10000032"
    folder.mkdir(parents=True)
    (folder / "s50414267.txt").write_text("FINDINGS: Clear.")
    (folder / "s53189527.txt").write_bytes(b"\x00\xff\x00")
    (folder / "LICENSE.txt").write_text("You may.")
    return tmp_path


def test_a_tree_is_read_in_order_and_binary_files_are_refused(tree):
    kept = Kept()
    reports = list(read_tree(tree, kept))
    assert [(each.study_id, each.subject_id) for each in reports] == [("s50414267", "p10000032")]
    assert "s53189527.txt: this is binary" in kept.messages[0]


def test_an_empty_folder_is_an_error(tmp_path):
    with pytest.raises(MedgroundError, match=r"no \.txt"):
        list(read_tree(tmp_path))


def test_one_text_file_is_one_report(tree):
    path = tree / "files" / "p10" / "p10000032" / "s50414267.txt"
    with path.open("rb") as stream:
        report = next(read_one(stream, str(path)))
    assert (report.study_id, report.subject_id, report.text) == ("s50414267", "p10000032", "FINDINGS: Clear.")


@pytest.mark.parametrize(
    ("start", "name", "kind"),
    [
        (b'{"study_id": 1}\n', "", "jsonl"),
        (b"study_id,findings\n", "", "table"),
        (b'\xef\xbb\xbf"id";"text"\n', "", "table"),
        (b"FINDINGS: Clear.", "", "text"),
        (b"nr,befund\n1,Clear.\n2,Effusion.\n", "", "table"),
        (b'acc,"the words"\r\n1,"Clear,\nno effusion."\r\n2,"Effu', "", "table"),
        (b"nr\tbefund\n1\tClear, no effusion.\n", "", "table"),
        (b"PA,lateral\nThe lungs are clear.\n", "", "text"),
        (b"Chest, PA\nClear, no effusion.\n", "", "text"),
        (b"PA,lateral\n", "", "text"),
        (b"PA,lateral\nClear, no effusion.\nNormal heart.\nEnd.\n", "", "text"),
        (b"nr,befund\n1,Clear.\n", "b.txt", "text"),
        (b"anything", "a/b.CSV", "table"),
        (b"anything", "b.txt", "text"),
    ],
)
def test_the_kind_of_input_shows(start, name, kind):
    assert kind_of(start, name) == kind


REPORT = "FINDINGS: No pneumothorax – clear “lungs”.\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_text_file_of_any_encoding_keeps_its_dashes(tmp_path, encoding):
    (tmp_path / "s1.txt").write_bytes(REPORT.encode(encoding))
    assert [each.text for each in read_tree(tmp_path)] == [REPORT]


def test_files_that_are_not_utf_8_are_one_warning(tmp_path, caplog):
    for name in ("s1", "s2"):
        (tmp_path / f"{name}.txt").write_bytes(REPORT.encode("cp1252"))
    assert len(list(read_tree(tmp_path))) == 2
    assert (
        len(caplog.records) == 1 and "s1.txt: not UTF-8; such files are read as Windows-1252" in caplog.text
    )


def test_bytes_that_windows_1252_does_not_define_cost_no_other():
    assert table(b"id,text\n1,a \x96 b \x81\n")[0].text == "a – b \x81"


@pytest.mark.parametrize(
    "content", [b"\x00\xff\x00", b"\x00" * 40, bytes(range(256)), b"\x01\x00\x02\x00a\x00", b""]
)
def test_zero_bytes_alone_are_no_utf_16(content):
    assert utf16(content) is None


@pytest.mark.slow
def test_a_table_in_utf_16_is_read_line_by_line():
    lines = (f"{n},Erguss – {n}\n" for n in range(20_000))
    stream = as_utf8(io.BufferedReader(io.BytesIO("".join(["id,text\n", *lines]).encode("utf-16"))), "t.csv")
    reports = list(read_table(stream, "t.csv"))
    assert len(reports) == 20_000 and reports[-1].text == "Erguss – 19999"
