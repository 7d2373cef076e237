"""What to look at: folders, cohort, lists of paths and JSON lines."""

import io
import json

import pytest

from medground import jsonl
from medground.anatomy import listing
from medground.errors import MedgroundError


def opened(text: str | bytes) -> io.BytesIO:
    return io.BytesIO(text.encode() if isinstance(text, str) else text)


def read(text: str | bytes, folder, rejects=None):
    return list(listing.read_images(opened(text), folder, jsonl.BadLines(rejects)))


def test_a_folder_is_searched_in_order_of_names(tmp_path):
    for name in ("b/2.png", "b/1.JPG", "a/3.dcm", "a/notes.txt", ".hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = list(listing.open_list(str(tmp_path), tmp_path, jsonl.BadLines()))
    assert [each.path for each in found] == ["a/3.dcm", "b/1.JPG", "b/2.png"]
    assert [each.image_id for each in found] == ["3", "1", "2"]


def test_paths_are_relative_to_the_images_folder(tmp_path):
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "images" / "deep" / "1.png").touch()
    (found,) = listing.open_list(str(tmp_path / "images" / "deep"), tmp_path / "images", jsonl.BadLines())
    assert found.path == "deep/1.png"


def test_an_image_is_itself(tmp_path):
    path = tmp_path / "scan"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    (found,) = listing.open_list(str(path), tmp_path, jsonl.BadLines())
    assert (found.image_id, found.path) == ("scan", "scan")


def test_a_list_of_paths(tmp_path):
    assert [each.path for each in read("a/1.png\n\n  b c.jpg \r\n", tmp_path)] == ["a/1.png", "b c.jpg"]


def test_json_lines_keep_what_they_carry(tmp_path):
    line = {"image_id": "i", "path": "p.png", "study_id": "s", "split": "train", "width": 3}
    (found,) = read(json.dumps(line), tmp_path)
    assert (found.study_id, found.extra) == ("s", {"split": "train", "width": 3})


def test_a_byte_order_mark_is_no_path(tmp_path):
    (found,) = read(b"\xef\xbb\xbf" + b'{"image_id": "i", "path": "p"}\n', tmp_path)
    assert found.image_id == "i"
    assert [each.path for each in read(b"\xef\xbb\xbfa/1.png\n2.png\n", tmp_path)] == ["a/1.png", "2.png"]


def test_nothing_gives_nothing(tmp_path):
    assert read("", tmp_path) == [] == read("\n \n", tmp_path)


def test_two_images_of_one_name_are_refused(tmp_path):
    with pytest.raises(MedgroundError, match="two images have the same image_id"):
        read("a/1.png\nb/1.png\n", tmp_path)


def test_a_bad_line_names_its_place(tmp_path):
    with pytest.raises(MedgroundError, match=r"<stdin>:2: path: this key is missing"):
        read('{"image_id": "i", "path": "p"}\n{"image_id": "j"}\n', tmp_path)
    with pytest.raises(MedgroundError, match="<stdin>:1: neither a path nor JSON"):
        read(b"\xff\xfe\n", tmp_path)


def test_bad_lines_can_be_put_aside(tmp_path):
    rejects = io.BytesIO()
    (found,) = read('{"image_id": "j"}\n{"image_id": "i", "path": "p"}\n', tmp_path, rejects)
    assert found.image_id == "i" and rejects.getvalue() == b'{"image_id": "j"}\n'
