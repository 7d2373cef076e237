import gzip
import io
import os
import zipfile

import pytest
from taken import Taken

from medground.datasets import sources
from medground.datasets.selection import only_split
from medground.datasets.sources import files, rows, sift
from medground.errors import BadRecord, MedgroundError
from medground.records import Report

TABLE = b"id,words\n1,one\n2,two\n"


def values(source, take=None):
    return [row.values for row in rows(source, {"id"}, "a table", Taken() if take is None else take)]


@pytest.mark.parametrize(
    "content",
    [
        TABLE,
        b"\xef\xbb\xbf" + TABLE,
        TABLE.replace(b"\n", b"\r\n"),
        gzip.compress(TABLE),
        TABLE.rstrip(),
        TABLE + b"\n\n",
    ],
    ids=["plain", "BOM", "CRLF", "gzip", "no last newline", "blank lines"],
)
def test_a_table_reads_the_same_however_it_was_saved(content, tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    expected = [{"id": "1", "words": "one"}, {"id": "2", "words": "two"}]
    assert values(path) == values(io.BytesIO(content)) == expected


@pytest.mark.parametrize("damage", ["cut", "checksum", "bits", "header"])
def test_a_damaged_gzip_file_is_one_line(damage, tmp_path):
    whole = bytearray(gzip.compress(TABLE * 2_000))
    if damage == "cut":
        whole = whole[: len(whole) // 2]
    elif damage == "header":
        whole[2] = 99
    else:
        place = -6 if damage == "checksum" else 20
        whole[place : place + 4] = b"\xff" * 4
    path = tmp_path / "table.csv.gz"
    path.write_bytes(bytes(whole))
    with pytest.raises(MedgroundError) as raised:
        values(path)
    assert str(raised.value) == f"{path}: damaged or truncated gzip file; fetch it again"


def test_a_cell_may_hold_line_breaks_and_the_next_row_still_knows_its_line():
    table = io.BytesIO(b'id,words\n1,"one\nmore"\n2,two\n')
    found = list(rows(table, {"id"}, "a table"))
    assert found[0].values["words"] == "one\nmore"
    assert [row.place for row in found] == ["<stdin>:2: ", "<stdin>:4: "]
    assert found[0].raw == b'1,"one\nmore"\n'


def test_a_missing_column_is_named(tmp_path):
    with pytest.raises(MedgroundError, match=r"<stdin>: no column 'id'; is this a table\?"):
        values(io.BytesIO(b"other\n1\n"))
    with pytest.raises(MedgroundError, match="no column 'id'"):
        values(io.BytesIO(b""))


def test_rows_that_do_not_fit_are_taken_as_they_were():
    taken = Taken()
    found = values(io.BytesIO(b"id,words\n1\n2,caf\xe9\n3,three\n"), taken)
    assert found == [{"id": "3", "words": "three"}]
    assert taken == [
        (b"1\n", "<stdin>:2: expected 2 cells, found 1"),
        (b"2,caf\xe9\n", "<stdin>:3: not UTF-8; convert it with iconv"),
    ]


def test_without_take_the_first_bad_row_ends_the_run():
    with pytest.raises(BadRecord, match="<stdin>:2: expected 2 cells"):
        list(rows(io.BytesIO(b"id,words\n1\n2,two\n"), {"id"}, "a table"))


def test_when_all_is_bad_that_is_an_error():
    with pytest.raises(MedgroundError, match="every row was rejected"):
        values(io.BytesIO(b"id,words\n1\n2\n"))


def test_a_number_may_be_text_but_not_words_or_infinite():
    [row] = rows(io.BytesIO(b"a,b,c,d\n 1.5 ,x,nan,inf\n"), {"a"}, "a table")
    assert row.number("a") == 1.5
    for column in "bcd":
        with pytest.raises(BadRecord, match=f"{column}: expected a"):
            row.number(column)


def test_an_index_column_is_not_carried():
    [row] = rows(io.BytesIO(b",Unnamed: 0,id,site\n0,0,1,x\n"), {"id"}, "a table")
    assert row.others({"id"}) == {"site": "x"}


def test_a_tree_is_read_in_order_and_so_is_its_zip(tmp_path):
    for name in ("b/2.txt", "a/b/1.txt", "a/3.txt", "a/note.md", "._x.txt"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    with zipfile.ZipFile(tmp_path / "tree.zip", "w") as archive:
        for name in ("tree/b/2.txt", "tree/a/3.txt", "tree/a/b/1.txt", "__MACOSX/tree/a/3.txt"):
            archive.writestr(name, name.removeprefix("tree/"))
    tree = [each.content for each in files(tmp_path / "tree", "*.txt")]
    assert tree == [b"a/3.txt", b"a/b/1.txt", b"b/2.txt"]
    assert sorted(tree) == sorted(each.content for each in files(tmp_path / "tree.zip", "*.txt"))


def test_a_tree_without_such_files_is_an_error(tmp_path):
    with pytest.raises(MedgroundError, match=r"no \*\.json in it"):
        list(files(tmp_path, "*.json"))


def test_a_bad_file_is_rejected_by_its_name(tmp_path):
    (tmp_path / "a.txt").write_text("good")
    (tmp_path / "b.txt").write_text("")

    def make(file):
        if not file.content:
            raise BadRecord("empty")
        return file.stem

    taken = Taken()
    assert list(sift(files(tmp_path, "*.txt"), make, taken)) == ["a"]
    assert taken == [(f"{tmp_path}/b.txt\n".encode(), f"{tmp_path}/b.txt: empty")]


def test_a_split_is_picked_without_the_gold_patients(caplog):
    def report(number, **extra):
        return Report(study_id=f"s{number}", extra=extra)

    records = [report(1, split="train"), report(2, split="test"), report(3, split="train", avoid=True)]
    assert [each.study_id for each in only_split(records, "train")] == ["s1"]
    assert len(list(only_split(records, None))) == 3
    assert "split 'train': 1 images of gold patients are left out" in caplog.text
    with pytest.raises(MedgroundError, match="no record is in split 'val'; there are: test, train"):
        list(only_split(records, "val"))


@pytest.mark.parametrize("damage", ["crc", "encrypted", "too large"])
def test_a_damaged_member_of_an_archive_is_rejected_alone(damage, tmp_path, monkeypatch):
    path = tmp_path / "tree.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "first " * 50)
        archive.writestr("b.txt", "second")
    raw = bytearray(path.read_bytes())
    if damage == "crc":
        raw[raw.index(b"first ")] ^= 1
    if damage == "encrypted":
        raw[6] |= 1
        raw[raw.index(b"PK\x01\x02") + 8] |= 1
    if damage == "too large":
        monkeypatch.setattr(sources, "MAX_UNPACKED", 100)
    path.write_bytes(raw)
    taken = []
    found = sift(
        files(path, "*.txt"), lambda file: [file.content], lambda line, bad: taken.append((line, bad))
    )
    assert list(found) == [[b"second"]]
    assert [line for line, _ in taken] == [f"{path}/a.txt\n".encode()]


def test_pipes_in_a_tree_are_skipped_with_a_warning(tmp_path, caplog):
    (tmp_path / "a.txt").write_text("first")
    os.mkfifo(tmp_path / "b.txt")
    (tmp_path / "c.txt").symlink_to(tmp_path / "missing")
    assert [each.content for each in files(tmp_path, "*.txt")] == [b"first"]
    assert [record.getMessage().split(": ")[0][-5:] for record in caplog.records] == ["b.txt", "c.txt"]


@pytest.mark.parametrize(
    "header, message", [(b"a,\xe9\n", "not UTF-8"), (b"a,b\r1,2\r", "lines must end with a line feed")]
)
def test_a_header_that_cannot_be_read_is_one_line(header, message):
    with pytest.raises(MedgroundError, match=message):
        list(rows(io.BytesIO(header), {"a"}, "a table"))
