"""Sizes, links and processes have bounds: going beyond them is one message."""

import errno
import gzip
import io
import logging
import multiprocessing
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from medground import images, jsonl, limits, parallel, strict_json
from medground.anatomy import coco
from medground.cli.main import cli
from medground.cli.report_input import open_reports
from medground.datasets import annotation_tools, json_items, mimic_cxr, sources
from medground.errors import BadRecord, MedgroundError
from medground.evaluation.inputs import coco_results, readers
from medground.evaluation.inputs.files import Hashed
from medground.records import Report
from medground.reports import input as report_input

REPORT = b"FINDINGS: Small left effusion.\n"


class Endless(io.RawIOBase):
    """A stream of one line that never ends; reading far beyond a limit fails."""

    name = "<stdin>"

    def __init__(self):
        self.left = 1 << 20

    def readable(self):
        return True

    def readinto(self, buffer):
        self.left -= len(buffer)
        assert self.left > 0, "read far beyond the limit"
        buffer[:] = b"a" * len(buffer)
        return len(buffer)


@pytest.fixture
def small(monkeypatch):
    """Small limits."""
    monkeypatch.setattr(limits, "MAX_LINE", 1000)
    monkeypatch.setattr(limits, "MAX_UNPACKED", 5000)


@pytest.fixture
def endless():
    return io.BufferedReader(Endless())


def test_a_line_without_end_is_one_message(small, endless):
    with pytest.raises(MedgroundError, match="<stdin>:1: a line of more than 1000 bytes; set MEDG"):
        list(jsonl.read(endless, Report, jsonl.BadLines()))


@pytest.mark.parametrize("end", [b"\n", b""])
def test_a_long_line_is_rejected_whole_and_others_are_read(small, end):
    good, long = b'{"study_id": "s1", "text": "x"}\n', b"a" * 5001
    rejects = io.BytesIO()
    lines = [good, long + b"\n", good] + ([long + end] if not end else [])
    stream = io.BufferedReader(io.BytesIO(b"".join(lines)))
    found = list(jsonl.read(stream, Report, jsonl.BadLines(rejects)))
    assert [each.study_id for each in found] == ["s1", "s1"]
    assert rejects.getvalue() == (long + b"\n") * (len(lines) - 2)


def test_a_long_line_that_nobody_reads_is_skipped(small):
    found = list(limits.lines_or_long(io.BytesIO(b"a\n" + b"b" * 9000 + b"\nc\n")))
    assert [found[0], found[2]] == [b"a\n", b"c\n"] and isinstance(found[1], limits.LongLine)


@pytest.mark.slow
def test_reports_of_other_encodings_reject_a_long_line(small, tmp_path):
    path, rejects = tmp_path / "in.jsonl", tmp_path / "rejects"
    path.write_bytes(
        b'{"study_id": "s1", "text": "Small effusion."}\n' + b'{"text": "' + b"\x96" * 2000 + b'"}\n'
    )
    result = CliRunner().invoke(cli, ["parse-reports", str(path), "--rejects", str(rejects)])
    assert result.exit_code == 0 and '"s1"' in result.stdout
    assert "in.jsonl:2: a line of more than 1000 bytes" in result.stderr and len(rejects.read_bytes()) == 2013


def test_a_row_without_end_is_one_message(small, endless):
    with pytest.raises(MedgroundError, match="a line of more than"):
        list(report_input.read_table(endless, "<stdin>"))


def test_a_table_without_end_is_one_message(small, endless):
    with pytest.raises(MedgroundError, match="a line of more than"):
        list(sources.rows(endless, {"a"}, "a table"))


def test_a_text_without_end_is_one_message(small, endless):
    with pytest.raises(MedgroundError, match="<stdin>: more than 1000 bytes"):
        list(report_input.read_one(endless, "<stdin>"))


@pytest.mark.parametrize("read", [readers.read_csv, coco_results.read_coco])
def test_predictions_without_end_are_one_message(small, endless, read):
    with pytest.raises(MedgroundError, match="a line of more than"):
        read(Hashed(endless), jsonl.BadLines(), print)
    many = io.BytesIO(b"a\n" * 5000)
    with pytest.raises(MedgroundError, match="more than 5000 bytes"):
        read(Hashed(many), jsonl.BadLines(), print)


def test_a_gzip_bomb_is_one_message(small, tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a\n" + b"1\n" * 100_000))
    with pytest.raises(MedgroundError, match=r"a.csv.gz: unpacks to more than"):
        list(sources.rows(path, {"a"}, "a table"))


def test_a_long_report_in_a_folder_is_rejected_and_others_are_read(small, tmp_path):
    (tmp_path / "s1.txt").write_bytes(REPORT * 100)
    (tmp_path / "s2.txt").write_bytes(REPORT)
    rejected = []
    read = list(report_input.read_tree(tmp_path, lambda line, bad: rejected.append(str(bad))))
    assert [each.study_id for each in read] == ["s2"] and "s1.txt: a report of more than" in rejected[0]


def test_lines_of_other_iterables_are_bounded(small):
    with pytest.raises(MedgroundError, match="x:2: a line of more than"):
        list(limits.lines([b"a", b"b" * 2000], "x"))


@pytest.mark.parametrize("value, factor", [("", 1), ("2", 2), ("0.5", 0.5), ("1e3", 1000)])
def test_one_variable_raises_the_limits(monkeypatch, value, factor):
    monkeypatch.setenv(limits.FACTOR, value)
    assert limits.factor() == factor and limits._times_factor(100) == 100 * factor


@pytest.mark.parametrize("value", ["x", "0", "-1", "nan", "inf", "1e9"])
def test_a_wrong_factor_is_refused(monkeypatch, value):
    monkeypatch.setenv(limits.FACTOR, value)
    result = CliRunner().invoke(cli, ["align", "--help"])
    assert result.exit_code == 1 and f"{limits.FACTOR}: expected a number" in result.stderr


def test_the_documentation_has_every_limit():
    text = (Path(__file__).resolve().parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    for name in (limits.FACTOR, *(each for each in vars(limits) if each.startswith("MAX_"))):
        assert f"`{name}`" in text


@pytest.fixture
def tree(tmp_path):
    """A folder with one report in a folder."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "s1.txt").write_bytes(REPORT)
    return tmp_path


@pytest.mark.parametrize(
    "links",
    [
        {"a/loop": "."},
        {"a/loop": "..", "a/b/loop": "../.."},
        {"a/b/x": "..", "a/b/y": "..", "a/b/z": "../.."},
        {"c": "a", "d": "a"},
        {"a/itself": "itself", "a/gone": "nowhere"},
    ],
    ids=str,
)
def test_a_loop_of_links_is_read_once(tree, links, caplog):
    for name, target in links.items():
        (tree / name).symlink_to(target)
    with caplog.at_level(logging.WARNING):
        assert [each.study_id for each in report_input.read_tree(tree)] == ["s1"]
    assert len(caplog.records) <= len(links)


def test_a_pipe_and_a_broken_link_among_reports_are_passed_over_with_a_word(tree, caplog):
    os.mkfifo(tree / "a" / "s0.txt")
    (tree / "a" / "s2.txt").symlink_to("nowhere")
    (tree / "a" / "s3.txt").mkdir()
    assert [each.study_id for each in report_input.read_tree(tree)] == ["s1"]
    said = "not a file but a pipe, a device or a broken link; skipped"
    assert [each.message.split(": ")[1] for each in caplog.records] == [said, said]


def test_too_few_file_descriptors_are_one_message(monkeypatch):
    def fail(process):
        raise OSError(errno.EMFILE, "Too many open files")

    fork = multiprocessing.get_context("fork")
    start, started = fork.Process.start, []

    def one(process):
        started.append(process)
        start(process) if len(started) < 3 else fail(process)

    monkeypatch.setattr(fork.Process, "start", one)
    with pytest.raises(MedgroundError, match="start 4 processes: Too many open files; use fewer"):
        list(parallel.ordered_map(abs, range(100), 4))
    for process in started[:2]:
        process.join(5)
        assert not process.is_alive()


def test_reports_from_stdin_are_bounded(small, monkeypatch, endless):
    from contextlib import ExitStack

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(endless))
    with ExitStack() as stack, pytest.raises(MedgroundError, match="more than 1000 bytes"):
        list(open_reports(stack, "-", None, jsonl.BadLines()))


@pytest.mark.parametrize(
    "content", [b'{"a": ' + b"1" * 2000 + b"}", b"[" * 990, b"[" * 300 + b"]" * 300, b"\xff{}", b"{", b""]
)
def test_the_config_of_a_model_is_bounded_and_shallow(small, tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(BadRecord, match=r"^(more than 1000 bytes|nested|not JSON)"):
        strict_json.config(path)


def test_a_data_set_in_one_json_file_is_bounded(small, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"[" + b"1," * 5000 + b"1]")
    with pytest.raises(MedgroundError, match=r"a.json: more than 5000 bytes"):
        json_items.read_json(path)


@pytest.mark.parametrize("alone", [True, False])
def test_a_large_file_of_a_tree_is_rejected_and_others_are_read(alone, small, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_UNPACKED", 5000)
    (tmp_path / "s1.txt").write_bytes(REPORT)
    (tmp_path / "s2.txt").write_bytes(REPORT * 200)
    rejected = []
    try:
        place = tmp_path / "s2.txt" if alone else tmp_path
        found = list(mimic_cxr.read_reports(place, lambda raw, bad: rejected.append(str(bad))))
    except MedgroundError as error:
        assert alone and "every row was rejected" in str(error)
    else:
        assert [each.study_id for each in found] == ["s1"]
    assert len(rejected) == 1 and "s2.txt: more than 0 MiB; set MEDG" in rejected[0]


def test_a_large_file_of_xml_is_one_message(small, tmp_path):
    (tmp_path / "a.xml").write_bytes(b"<annotations>" + b" " * 6000 + b"</annotations>")
    with pytest.raises(MedgroundError, match=r"a\.xml: more than 5000 bytes; set MEDG"):
        list(annotation_tools.read_cvat(tmp_path / "a.xml"))


def test_a_large_dicom_image_is_one_message(small, tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 6000)
    for read in (images.load, images.describe):
        with pytest.raises(MedgroundError, match=r"a\.dcm: more than 5000 bytes; set MEDG"):
            read(path)


@pytest.mark.parametrize("side, points", [(90_000, 3000), (60, 400_000)])
def test_a_polygon_with_a_long_boundary_is_refused(side, points):
    polygon = [side * (n // 2 % 2) for n in range(2 * points)]
    with pytest.raises(ValueError, match="too long a boundary"):
        coco.polygon_mask(polygon, 60, 50)
