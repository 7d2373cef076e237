import io
import json
import zipfile

import pytest
from imagenome_files import GOLD, IMAGE, METADATA, drawn, graph
from taken import Taken

from medground.datasets import chest_imagenome, mimic_cxr
from medground.datasets.chest_imagenome import Splits, read_anatomy, read_gold, read_splits
from medground.errors import BadRecord, MedgroundError


@pytest.fixture
def images():
    return {each.image_id: each for each in mimic_cxr.read_images(io.BytesIO(METADATA.encode()))}


@pytest.fixture
def written(tmp_path):
    """Write graphs as the data set has them; `written(graph, ...)` returns the folder."""

    def write(*graphs, folder="silver_dataset/scene_graph"):
        place = tmp_path / folder
        place.mkdir(parents=True, exist_ok=True)
        for each in graphs:
            (place / f"{each['image_id']}_SceneGraph.json").write_text(json.dumps(each))
        return tmp_path

    return write


def only(root, images, **more):
    [anatomy] = read_anatomy(root, images, **more)
    return anatomy


def test_a_graph_gives_its_boxes_in_original_pixels(written, images):
    anatomy = only(written(graph(drawn("right lung", 100, 200, 1100, 2200))), images)
    assert [(each.name, each.box, each.score) for each in anatomy.regions] == [
        ("right lung", (100, 200, 1100, 2200), 1.0)
    ]
    assert (anatomy.width, anatomy.height, anatomy.view) == (2500, 3000, "AP")
    assert (anatomy.study_id, anatomy.subject_id) == ("s50414267", "p10000032")
    assert anatomy.path == f"files/p10/p10000032/s50414267/{IMAGE}.jpg"


def test_numbers_may_be_text(written, images):
    anatomy = only(written(graph(drawn("spine", "100", "200.0", "300", "400"))), images)
    assert anatomy.regions[0].box == (100, 200, 300, 400)


def test_damaged_boxes_are_mended_or_left_out_and_counted(written, images, caplog):
    dirty = [
        drawn("right lung", -50, -10, 1100, 2200),
        drawn("left lung", 1300, 200, 2600, 3100),
        drawn("spine", 500, 500, 500, 900),
        drawn("carina", 900, 900, 800, 800),
        drawn("svc", 2600, 10, 2700, 20),
        drawn("right lung", 0, 0, 10, 10),
    ]
    anatomy = only(written(graph(*dirty)), images)
    assert {each.name: each.box for each in anatomy.regions} == {
        "right lung": (0, 0, 1100, 2200),
        "left lung": (1300, 200, 2500, 3000),
    }
    assert "2 boxes beyond the border of their image, clipped" in caplog.text
    assert "3 boxes without area inside their image, left out" in caplog.text
    assert "1 second boxes of a region, left out" in caplog.text


def test_missing_regions_and_no_regions_are_fine(written, images):
    assert only(written(graph()), images).regions == []


def test_a_graph_without_objects_has_no_regions(written, images):
    bare = graph()
    del bare["objects"]
    assert only(written(bare), images).regions == []


def test_a_lateral_view_is_marked_as_such(written, images):
    assert not only(written(graph(viewpoint="LATERAL")), images).is_frontal


def test_unknown_keys_are_carried_and_known_ones_are_not(written, images):
    anatomy = only(written(graph(reader="A", gender="F")), images)
    assert anatomy.extra == {"reader": "A"}


def test_a_doubled_folder_gives_each_image_once(written, images, caplog):
    written(graph(), folder="silver_dataset/scene_graph")
    root = written(graph(), folder="silver_dataset/scene_graph/scene_graph")
    only(root, images)
    assert "1 second graphs of an image" in caplog.text


def test_a_zip_is_read_as_it_was_downloaded(tmp_path, images):
    with zipfile.ZipFile(tmp_path / "scene_graph.zip", "w") as archive:
        archive.writestr(
            f"scene_graph/{IMAGE}_SceneGraph.json", json.dumps(graph(drawn("spine", 1, 2, 3, 4)))
        )
    assert only(tmp_path / "scene_graph.zip", images).regions[0].box == (1, 2, 3, 4)


@pytest.mark.parametrize(
    "content, problem",
    [
        ("{oops", "not JSON"),
        ("[]", "expected an object"),
        ("{}", "image_id: expected the id of an image"),
        (json.dumps(graph(image_id="unknown-image")), "image_id: this image is not in the metadata table"),
        (json.dumps(graph(objects=7)), "objects: expected an array"),
        (json.dumps(graph({"bbox_name": "spine"})), "objects[0].original_x1: expected a number"),
        (json.dumps(graph(drawn("spine", "x", 0, 1, 1))), "objects[0].original_x1: expected a number"),
        (json.dumps(graph(drawn(7, 0, 0, 1, 1))), "objects[0].bbox_name: expected the name of a region"),
    ],
)
def test_a_bad_graph_is_rejected_by_name_and_the_rest_goes_on(written, images, content, problem):
    root = written(graph())
    bad = root / "silver_dataset" / "scene_graph" / "a_SceneGraph.json"
    bad.write_text(content)
    taken = Taken()
    assert len(list(read_anatomy(root, images, taken))) == 1
    assert taken == [(f"{bad}\n".encode(), f"{bad}: {problem}")]
    with pytest.raises(BadRecord):
        list(read_anatomy(root, images))


def test_splits_are_read_with_and_without_an_index_column(tmp_path):
    (tmp_path / "train.csv").write_text(
        f",subject_id,study_id,dicom_id,path,ViewPosition\n0,1,2,{IMAGE},x.dcm,PA\n"
    )
    (tmp_path / "test.csv").write_text("subject_id,study_id,dicom_id,path,ViewPosition\n1,2,other,x.dcm,PA\n")
    (tmp_path / "images_to_avoid.csv").write_text("dicom_id\nother\n")
    splits = read_splits(tmp_path)
    assert splits == Splits({IMAGE: "train", "other": "test"}, frozenset({"other"}))


def test_a_folder_without_splits_is_refused(tmp_path):
    with pytest.raises(MedgroundError, match=r"no train\.csv"):
        read_splits(tmp_path)


def test_splits_are_carried_and_missing_graphs_counted(written, images, caplog):
    splits = Splits({IMAGE: "train", "gone": "train"}, frozenset({IMAGE}))
    assert only(written(graph()), images, splits=splits).extra == {"split": "train", "avoid": True}
    assert "1 images of the splits without a graph" in caplog.text


@pytest.mark.parametrize("below", [".", "silver_dataset", "silver_dataset/scene_graph/scene_graph"])
def test_splits_are_found_beside_the_graphs(written, below):
    root = written(graph(), folder="silver_dataset/scene_graph/scene_graph")
    splits = root / "silver_dataset" / "splits"
    splits.mkdir()
    (splits / "train.csv").write_text("dicom_id\n")
    assert chest_imagenome.splits_beside(root / below) == splits
    (splits / "train.csv").unlink()
    assert chest_imagenome.splits_beside(root / below) is None


def test_gold_boxes_are_read_in_the_order_of_their_columns(images):
    table = GOLD + (
        f"{IMAGE}.dcm,1,2,3,4,2,2,right lung,A,100,1100,200,2200\n"
        f"174413ec-4ec4c1f7.dcm,1,2,3,4,2,2,spine,A,5,50,6,60\n"
        f"{IMAGE}.dcm,1,2,3,4,2,2,left lung,B,1300.0,2600.0,200.0,2200.0\n"
    )
    first, second = read_gold(io.BytesIO(table.encode()), images)
    assert {each.name: each.box for each in first.regions} == {
        "right lung": (100, 200, 1100, 2200),
        "left lung": (1300, 200, 2500, 2200),
    }
    assert (second.image_id, second.regions[0].box) == ("174413ec-4ec4c1f7", (5, 6, 50, 60))


def test_a_gold_image_with_a_bad_row_is_left_out_whole(images):
    table = GOLD + (
        f"{IMAGE}.dcm,1,2,3,4,2,2,right lung,A,100,1100,200,2200\n"
        f"{IMAGE}.dcm,1,2,3,4,2,2,left lung,A,x,1100,200,2200\n"
        f"174413ec-4ec4c1f7.dcm,1,2,3,4,2,2,spine,A,5,50,6,60\n"
    )
    taken = Taken()
    [anatomy] = read_gold(io.BytesIO(table.encode()), images, taken)
    assert anatomy.image_id == "174413ec-4ec4c1f7"
    [(raw, message)] = taken
    assert raw.count(b"\n") == 2
    assert message == "<stdin>:3: original_x1: expected a number"
