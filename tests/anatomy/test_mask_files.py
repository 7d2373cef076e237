"""Every kind of file that a mask model leaves gives the same boxes; bad ones are one line."""

import json
import pickle
import zipfile

import numpy as np
import pytest
from drawn_masks import (
    HEIGHT,
    LEFT,
    RIGHT,
    WIDTH,
    boxes,
    chest,
    cxas_array,
    detect,
    pspnet_array,
    slow_box,
    write_cxas,
    write_images,
)
from PIL import Image

from medground.anatomy import masks


@pytest.fixture
def folder(tmp_path):
    return write_images(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["npy", "npz", "png", "jpg", "json"])
def test_every_kind_of_file_that_cxas_writes_gives_the_same_boxes(folder, how):
    for number in range(2):
        write_cxas(folder / "masks", how, number)
    found = boxes(detect(folder, "cxas"), line=1)
    for name, mask in chest().items():
        region = masks.model("cxas").names[name]
        assert found[region] == pytest.approx(slow_box(mask), abs=2 if how == "jpg" else 0.1)
    assert "right mid lung zone" in found and "svc" not in found


@pytest.mark.slow
@pytest.mark.parametrize("how", ["logits", "probabilities", "binary", "bytes", "batch"])
def test_pspnets_masks_lie_on_the_centre_square(folder, how):
    logits = pspnet_array()
    given = {
        "logits": logits,
        "probabilities": 1 / (1 + np.exp(-logits)),
        "binary": logits > 0,
        "bytes": (logits > 0).astype(np.uint8) * 255,
        "batch": logits[None],
    }[how]
    for number in range(2):
        np.save(folder / "masks" / f"image{number}.npy", given)
    result = detect(folder, "pspnet")
    found = boxes(result)
    for name, mask in (("right lung", "right lung"), ("cardiac silhouette", "heart")):
        assert found[name] == pytest.approx(slow_box(chest()[mask]), abs=1)
    assert found["right hemidiaphragm"] == pytest.approx(slow_box(chest()["right hemidiaphragm"]), abs=1)
    scores = {each["score"] for each in json.loads(result.stdout.splitlines()[0])["regions"]}
    assert scores == ({1.0} if how in ("binary", "bytes") else {0.9526})


@pytest.fixture
def label_names(tmp_path):
    path = tmp_path / "names.toml"
    path.write_text('[names]\n1 = "right lung"\n2 = "left lung"\n300 = "heart"\n301 = "heart"\n')
    return path


@pytest.mark.parametrize("how", ["png", "tif", "npy", "palette"])
def test_label_maps(folder, label_names, how):
    labels = np.zeros((HEIGHT, WIDTH), np.uint16)
    for number, name in ((1, "right lung"), (2, "left lung")):
        labels[chest()[name]] = number
    lines = (folder / "list.jsonl").read_text().splitlines(keepends=True)
    (folder / "list.jsonl").write_text(lines[0])
    if how == "npy":
        np.save(folder / "masks" / "id0.npy", labels)
    elif how == "palette":
        picture = Image.fromarray(labels.astype(np.uint8))
        picture = picture.convert("P")
        picture.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
        picture.save(folder / "masks" / "image0.png")
    else:
        labels[150:160, 140:150], labels[160:170, 140:150] = 300, 301
        Image.fromarray(labels).save(folder / "masks" / f"image0.{how}")
    found = boxes(detect(folder, "label-map", "--mask-names", label_names))
    assert found[RIGHT] == pytest.approx(slow_box(chest()["right lung"]), abs=0.1)
    if how in ("png", "tif"):
        assert found["cardiac silhouette"] == [140, 150, 150, 170]


def test_masks_by_name_of_a_model_that_nobody_knows(folder):
    text = '[names]\n"my_heart" = "cardiac silhouette"\n'
    (folder / "names.toml").write_text(text, encoding="utf-8-sig")  # as editors of Windows write it
    for number in range(2):
        arrays = {"Left_Lung": chest()["left lung"], "my_heart": chest()["heart"], "liver": chest()["spine"]}
        np.savez(folder / "masks" / f"id{number}.npz", **arrays)
    found = boxes(detect(folder, "named", "--mask-names", folder / "names.toml"))
    assert found[LEFT] == pytest.approx(slow_box(chest()["left lung"]), abs=0.1)
    assert "cardiac silhouette" in found and RIGHT not in found


def ruined(path, how):
    array = cxas_array(chest())
    if how == "truncated npy":
        np.save(path, array)
        path.write_bytes(path.read_bytes()[:5000])
    elif how == "truncated npz":
        np.savez_compressed(path.with_suffix(".npz"), array)
        whole = path.with_suffix(".npz").read_bytes()
        path.with_suffix(".npz").write_bytes(whole[: len(whole) // 2])
    elif how == "npz damaged inside":
        with zipfile.ZipFile(path.with_suffix(".npz"), "w") as archive:
            archive.writestr("arr_0.npy", b"\x93NUMPY\x01\x00v\x00{oops")
    elif how == "pickle":
        path.write_bytes(pickle.dumps(array[:2]))
    elif how == "objects":
        np.save(path, np.array([{"right lung": 1}], dtype=object), allow_pickle=True)
    elif how == "another number of classes":
        np.save(path, array[:14])
    elif how == "flat":
        np.save(path, array[0])
    elif how == "words":
        path.with_suffix(".json").write_text("words")
    elif how == "another json":
        path.with_suffix(".json").write_text('{"images": 3}')
    elif how == "run lengths that do not fit":
        broken = {"image_id": 1, "category_id": 0, "segmentation": {"size": [10, 10], "counts": [5, 9999]}}
        given = {"images": [{"id": 1, "file_name": "image0.png"}], "categories": [{"id": 0, "name": "heart"}]}
        path.with_suffix(".json").write_text(json.dumps(given | {"annotations": [broken]}))
    elif how == "a huge outline":
        broken = {"image_id": 1, "category_id": 0, "segmentation": {"size": [10**6, 10**6], "counts": [5]}}
        given = {"images": [{"id": 1, "file_name": "image0.png"}], "categories": [{"id": 0, "name": "heart"}]}
        path.with_suffix(".json").write_text(json.dumps(given | {"annotations": [broken]}))
    elif how == "a picture that is none":
        path.with_suffix("").mkdir()
        (path.with_suffix("") / "heart.png").write_bytes(b"words")
    elif how == "two sizes":
        path.with_suffix("").mkdir()
        for name, size in (("heart", 20), ("left lung", 30)):
            Image.new("L", (size, size), 255).save(path.with_suffix("") / f"{name}.png")
    else:
        assert how == "missing"


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    [
        "truncated npy",
        "truncated npz",
        "npz damaged inside",
        "pickle",
        "objects",
        "another number of classes",
        "flat",
        "words",
        "another json",
        "run lengths that do not fit",
        "a huge outline",
        "a picture that is none",
        "two sizes",
        "missing",
    ],
)
def test_bad_masks_are_one_line_and_the_others_are_done(folder, how):
    ruined(folder / "masks" / "image0.npy", how)
    write_cxas(folder / "masks", "npz", 1)
    result = detect(folder, "cxas")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1 and "image0" in result.stderr
    result = detect(folder, "cxas", "--rejects", folder / "rejects.jsonl")
    assert [json.loads(line)["image_id"] for line in result.stdout.splitlines()] == ["id1"]
    assert json.loads((folder / "rejects.jsonl").read_text())["image_id"] == "id0"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[names]\n1 = 'left shoe'\n", "names.1: not a region"),
        ("[names]\nheart = 'left lung'\n", "whole numbers"),
        ("names = 3\n", "expected one table"),
        ("[names\n", "not TOML"),
    ],
)
def test_bad_names_are_one_line(folder, text, said):
    (folder / "names.toml").write_text(text)
    result = detect(folder, "label-map", "--mask-names", folder / "names.toml")
    assert result.exit_code == 1 and said in result.stderr and result.stderr.count("\n") == 1
