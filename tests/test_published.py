import json

import pytest
from click.testing import CliRunner

from medground.cli.main import cli
from medground.published import explained

FIRST_LINES = {
    "mimic-sectioned": b"study,impression,findings,last_paragraph,comparison\n",
    "mimic-jpg": b"dicom_id,subject_id,study_id,ViewPosition,Rows,Columns\n",
    "ms-cxr": b"dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height\n",
    "imagenome-gold": b"image_id,x1,y1,x2,y2,width,height,bbox_name,annot_id,original_x1\n",
    "imagenome": json.dumps({"objects": [{"bbox_name": "spine", "original_x1": 1}]}).encode(),
}


@pytest.mark.parametrize("name, line", FIRST_LINES.items())
def test_a_published_file_is_recognised_by_its_first_line(name, line):
    assert f"medground convert {name} " in explained("not JSON", line)
    assert name in cli.commands["convert"].commands


def test_coco_json_is_recognised():
    line = json.dumps({"images": [], "annotations": [], "categories": []}).encode()
    assert "medground convert ms-cxr" in explained("this key is missing", line)


def test_other_lines_are_left_alone():
    assert explained("not JSON", b"{oops") == "not JSON"


def test_a_command_that_is_given_a_published_file_says_what_to_do(tmp_path):
    boxes = tmp_path / "boxes.jsonl"
    boxes.write_bytes(FIRST_LINES["imagenome"])
    result = CliRunner().invoke(cli, ["align", "--anatomy", str(boxes)], input="{}")
    assert result.exit_code == 1
    assert "medground convert imagenome" in result.stderr


def test_a_gzipped_file_is_named_as_such(tmp_path):
    boxes = tmp_path / "boxes.jsonl.gz"
    boxes.write_bytes(b"\x1f\x8b\x08\x00 and so on")
    result = CliRunner().invoke(cli, ["align", "--anatomy", str(boxes)], input="{}")
    assert result.stderr == f"Error: {boxes}:1: gzipped: zcat it into this command\n"
