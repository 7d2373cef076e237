"""Masks of other people's models: outlines to boxes of our regions, whatever file they lie in."""

import json
import pickle
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from medground.anatomy import coco, masks, regions
from medground.anatomy.masks import Frame, Shape
from medground.cli.main import cli
from medground.errors import MedgroundError

WIDTH, HEIGHT = 300, 240
RIGHT, LEFT = "right lung", "left lung"


def ellipse(x, y, rx, ry, width=WIDTH, height=HEIGHT):
    down, across = np.mgrid[0:height, 0:width] + 0.5
    return ((across / width - x) / rx) ** 2 + ((down / height - y) / ry) ** 2 <= 1


def chest(width=WIDTH, height=HEIGHT):
    """Masks under CXAS's names: lungs, heart, spine, windpipe, domes."""
    size = {"width": width, "height": height}
    return {
        "right lung": ellipse(0.3, 0.5, 0.15, 0.35, **size),
        "left lung": ellipse(0.7, 0.5, 0.14, 0.35, **size),
        "heart": ellipse(0.54, 0.65, 0.14, 0.15, **size),
        "spine": ellipse(0.5, 0.5, 0.03, 0.49, **size),
        "trachea": ellipse(0.5, 0.2, 0.02, 0.15, **size),
        "clavicle right": ellipse(0.35, 0.2, 0.12, 0.02, **size),
        "clavicle left": ellipse(0.65, 0.2, 0.12, 0.02, **size),
        "right hemidiaphragm": ellipse(0.3, 0.86, 0.15, 0.05, **size),
        "left hemidiaphragm": ellipse(0.7, 0.88, 0.14, 0.05, **size),
    }


def slow_box(mask):
    rows, columns = np.nonzero(mask)
    return (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


# The table


def test_the_table_knows_every_class_of_both_models_once():
    for name, count in (("cxas", 159), ("pspnet", 14)):
        known = masks.model(name)
        assert len(known.classes) == len(set(known.classes)) == count
        assert known.names.keys() <= {masks.plain(each) for each in known.classes}
        assert set(known.names.values()) <= {*regions.NAMES, *masks.HELPERS}
        assert len(set(known.names.values())) == len(known.names)
    assert masks.model("cxas").classes[135] == "right lung" and len(masks.model("cxas").names) == 23


def test_both_models_keep_the_patients_sides():
    for name in ("cxas", "pspnet"):
        for spelled, region in masks.model(name).names.items():
            for side in ("left", "right"):
                assert (side in spelled) == (side in region)


def test_every_rule_makes_a_region_of_ours_from_known_things():
    for rule in masks.rules():
        assert rule.region in regions.NAMES
        assert rule.needs <= {*regions.NAMES, *masks.HELPERS}
        for side, other in (("left", "right"), ("right", "left")):
            if side in rule.region:
                assert not any(other in name for name in rule.needs)


@pytest.mark.parametrize(("name", "direct", "all_there"), [("cxas", 23, 34), ("pspnet", 10, 31)])
def test_what_each_model_gives_and_what_stays_absent(name, direct, all_there):
    have = set(masks.model(name).names.values())
    shapes = {each: Shape((10.0, 10, 40, 60) if "right" in each else (50.0, 10, 80, 60)) for each in have}
    shapes |= {"spine": Shape((40.0, 0, 50, 90)), "cardiac silhouette": Shape((30.0, 30, 70, 50))}
    if "diaphragm" in shapes:
        shapes["diaphragm"] = Shape((10.0, 50, 80, 60))
    found = masks.complete(shapes)
    assert len(have & set(regions.NAMES)) == direct
    made = found.keys() & set(regions.NAMES)
    assert len(made) == all_there and "svc" not in made and "cavoatrial junction" not in made


# Shapes


def test_specks_do_not_count_and_pieces_do():
    mask = np.zeros((100, 100), bool)
    mask[40:60, 40:60] = True
    mask[70:80, 40:50] = True  # a quarter of the largest piece: counts
    mask[2:4, 2:4] = True
    assert masks.shape_of(mask).box == (40, 40, 60, 80)


def test_an_empty_mask_and_a_few_lone_pixels_are_no_structure():
    mask = np.zeros((400, 400), bool)
    assert masks.shape_of(mask) is None
    mask[5, 5:8] = True
    assert masks.shape_of(mask) is None


@given(st.lists(st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 10)] * 2), min_size=1, max_size=4))
def test_the_box_is_that_of_the_pieces_that_count(rectangles):
    from scipy import ndimage

    mask = np.zeros((40, 40), bool)
    for x, y, w, h in rectangles:
        mask[y : y + h, x : x + w] = True
    labels, count = ndimage.label(mask)
    areas = [(labels == n).sum() for n in range(1, count + 1)]
    kept = np.isin(labels, [n for n, area in enumerate(areas, 1) if area >= 0.1 * max(areas)])
    assert masks.shape_of(mask).box == slow_box(kept)


def test_the_score_is_the_mean_probability_inside():
    likely = np.full((20, 20), 0.1)
    likely[5:10, 5:10] = 0.9
    assert masks.shape_of(likely >= 0.5, likely).score == pytest.approx(0.9)


# Rules


@pytest.fixture(scope="module")
def found():
    names = masks.model("cxas").names
    shapes = {names[name]: masks.shape_of(mask) for name, mask in chest().items()}
    return masks.complete(shapes)


@pytest.mark.parametrize("side", ["right", "left"])
def test_lung_zones_are_thirds_of_the_lungs_height(found, side):
    mask = chest()[f"{side} lung"]
    _, top, _, bottom = slow_box(mask)
    for n, zone in enumerate(("upper", "mid", "lower")):
        part = mask.copy()
        part[: round(top + n * (bottom - top) / 3)] = False
        part[round(top + (n + 1) * (bottom - top) / 3) :] = False
        assert found[f"{side} {zone} lung zone"].box == pytest.approx(slow_box(part), abs=1)


def test_the_apex_lies_above_the_clavicle_and_is_narrower_than_the_lung(found):
    lung, apex, clavicle = (found[f"right {name}"].box for name in ("lung", "apical zone", "clavicle"))
    assert lung[1] == apex[1] < clavicle[1] <= apex[3] <= clavicle[3]
    assert apex[2] - apex[0] < lung[2] - lung[0]


def test_sides_of_the_heart_meet_at_the_spine(found):
    whole, right, left = (found[f"{s}cardiac silhouette"].box for s in ("", "right ", "left "))
    assert right[0] == whole[0] and right[2] == pytest.approx(150, abs=1)
    assert left[0] == pytest.approx(150, abs=1) and left[2] == whole[2]


def test_costophrenic_angles_lie_outwards_and_hila_inwards(found):
    middle = 150
    for side in ("right", "left"):
        lung, angle, hilum = (
            found[f"{side} {n}"].box for n in ("lung", "costophrenic angle", "hilar structures")
        )
        centre = (lung[0] + lung[2]) / 2
        assert abs((angle[0] + angle[2]) / 2 - middle) > abs(centre - middle)
        assert abs((hilum[0] + hilum[2]) / 2 - middle) < abs(centre - middle)


def test_the_abdomen_reaches_the_edge_of_the_film(found):
    box = Frame((WIDTH, HEIGHT), (600, 480), "stretch").to_film(found["abdomen"].box)
    domes = min(found[f"{s} hemidiaphragm"].box[1] for s in ("right", "left"))
    assert box[3] == 480 and box[1] == pytest.approx(2 * domes, abs=0.1)


def test_no_mask_is_replaced_by_a_rule():
    shapes = {"right lung": Shape((0.0, 0, 30, 90)), "right mid lung zone": Shape((1.0, 2, 3, 4))}
    assert masks.complete(shapes)["right mid lung zone"].box == (1, 2, 3, 4)


def test_without_what_a_rule_needs_there_is_no_region():
    assert masks.complete({"spine": Shape((0.0, 0, 1, 1))}).keys() == {"spine"}
    assert "right apical zone" not in masks.complete({"right lung": Shape((0.0, 0, 30, 90))})


# On the film


@given(
    st.integers(200, 3000),
    st.integers(200, 3000),
    st.sampled_from(masks.FITS),
    st.tuples(*[st.floats(0, 0.45)] * 2, *[st.floats(0.55, 1)] * 2),
)
def test_boxes_come_back_to_where_they_were_on_the_film(width, height, fit, shares):
    side = min(width, height)
    x0, y0 = (width // 2 - side // 2, height // 2 - side // 2) if fit == "crop" else (0, 0)
    w, h = (side, side) if fit == "crop" else (width, height)
    box = np.array([x0 + shares[0] * w, y0 + shares[1] * h, x0 + shares[2] * w, y0 + shares[3] * h])
    if fit == "letterbox":
        from medground.boxes import Letterbox

        there = Letterbox(width, height, 512).to_square(box[None])[0]
    else:  # what cropping (or not) and then resizing to 512 x 512 does to a point
        there = (box - np.array([x0, y0, x0, y0])) * np.array([512 / w, 512 / h] * 2)
    back = Frame((512, 512), (width, height), fit).to_film(tuple(there))
    assert back == pytest.approx(tuple(box), abs=0.11)


def test_masks_of_another_shape_need_to_be_told_how_they_lie():
    assert masks.frame_of((150, 120), (300, 240), None).fit == "stretch"
    with pytest.raises(MedgroundError, match="masks are 512 x 512, the film is 300 x 240"):
        masks.frame_of((512, 512), (300, 240), None)
    with pytest.raises(MedgroundError, match="no square"):
        masks.frame_of((512, 400), (300, 240), "crop")


# Files


@pytest.fixture
def films(tmp_path):
    """Two films, in folders of their own, and a list of them."""
    lines = []
    for number in range(2):
        path = tmp_path / "films" / f"p{number}" / f"film{number}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((HEIGHT, WIDTH), 90, np.uint8)).save(path)
        lines.append({"image_id": f"id{number}", "path": f"p{number}/film{number}.png", "split": "test"})
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "masks").mkdir()
    return tmp_path


def detect(folder, kind, *flags, masks="masks"):
    command = ["detect-anatomy", str(folder / "list.jsonl"), "--images", str(folder / "films")]
    source = ["--masks", str(folder / masks), "--mask-format", kind]
    return CliRunner().invoke(cli, [*command, *source, *map(str, flags)])


def boxes(result, line=0):
    assert result.exit_code == 0, result.stderr
    anatomy = json.loads(result.stdout.splitlines()[line])
    return {each["name"]: each["box"] for each in anatomy["regions"]}


def cxas_array(found):
    """All 159 channels, as CXAS stacks them."""
    classes = masks.model("cxas").classes
    empty = np.zeros((HEIGHT, WIDTH), bool)
    return np.stack([found.get(name, empty) for name in classes])


def write_cxas(folder, how, number):
    """One film's masks, as CXAS's FileSaver leaves them."""
    array, name = cxas_array(chest()), f"film{number}"
    if how == "npy":
        np.save(folder / f"{name}.npy", array)
    elif how == "npz":
        np.savez_compressed(folder / f"{name}.npz", array)
    elif how == "json":
        write_cxas_json(folder / f"{name}.json", name, array)
    else:
        (folder / name).mkdir()
        for each, mask in zip(masks.model("cxas").classes, array, strict=True):
            Image.fromarray(mask).convert("1").save(folder / name / f"{each}.{how}")


def runs(mask):
    """COCO's run lengths, counted one pixel after the other."""
    lengths, now = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != now:
            lengths.append(0)
            now = pixel
        lengths[-1] += 1
    return lengths


def packed(lengths):
    """Run lengths as COCO packs them: what pycocotools' rleToString does, digit by digit."""
    text = ""
    for place, length in enumerate(lengths):
        rest, more = length - (lengths[place - 2] if place > 2 else 0), True
        while more:
            digit, rest = rest & 31, rest >> 5
            more = rest != (-1 if digit & 16 else 0)
            text += chr(digit + (32 if more else 0) + 48)
    return text


def test_packed_run_lengths_are_those_of_pycocotools():
    rle = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    for mask in chest().values():
        theirs = rle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert packed(runs(mask)) == theirs
        assert (coco._runs({"size": list(mask.shape), "counts": theirs}) == mask).all()


@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_any_mask_comes_back_from_its_run_lengths(pixels):
    mask = np.array(pixels).reshape(3, 4)
    for counts in (runs(mask), packed(runs(mask))):
        assert (coco._runs({"size": [3, 4], "counts": counts}) == mask).all()


def write_cxas_json(path, name, array):
    """Its one image is packed in a list of its own, and has no size."""
    annotations = []
    for number, mask in enumerate(array):
        if mask.any():
            outline = {"size": list(mask.shape), "counts": packed(runs(mask))}
            annotations.append({"image_id": 1, "category_id": number, "segmentation": outline})
    categories = [{"id": n, "name": each} for n, each in enumerate(masks.model("cxas").classes)]
    images = [[{"id": 1, "file_name": f"/data/{name}.png"}]]
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))


@pytest.mark.parametrize("how", ["npy", "npz", "png", "jpg", "json"])
def test_every_kind_of_file_that_cxas_writes_gives_the_same_boxes(films, how):
    for number in range(2):
        write_cxas(films / "masks", how, number)
    found = boxes(detect(films, "cxas"), line=1)
    for name, mask in chest().items():
        region = masks.model("cxas").names[name]
        assert found[region] == pytest.approx(slow_box(mask), abs=2 if how == "jpg" else 0.1)
    assert "right mid lung zone" in found and "svc" not in found


def test_a_line_keeps_what_it_carries_and_says_where_its_boxes_come_from(films):
    write_cxas(films / "masks", "npz", 0)
    write_cxas(films / "masks", "npz", 1)
    line = json.loads(detect(films, "cxas").stdout.splitlines()[0])
    assert (line["split"], line["width"], line["height"]) == ("test", WIDTH, HEIGHT)
    assert line["model"].startswith("cxas-") and {each["score"] for each in line["regions"]} == {1.0}


def pspnet_array():
    """(14, 512, 512) logits of the centre square, as TorchXRayVision gives them for a 300 x 240 film."""
    spelled = {"Right Lung": "right lung", "Left Lung": "left lung", "Heart": "heart", "Spine": "spine"}
    drawn, rows = chest(), []
    for name in masks.model("pspnet").classes:
        if name in spelled:
            mask = drawn[spelled[name]]
        elif name == "Facies Diaphragmatica":
            mask = drawn["right hemidiaphragm"] | drawn["left hemidiaphragm"]
        else:
            mask = np.zeros_like(drawn["heart"])
        square = Image.fromarray(mask[:, 30:270]).resize((512, 512))
        rows.append(np.where(np.asarray(square), 3.0, -3.0))
    return np.stack(rows).astype(np.float32)


@pytest.mark.parametrize("how", ["logits", "probabilities", "binary", "bytes", "batch"])
def test_pspnets_masks_lie_on_the_centre_square(films, how):
    logits = pspnet_array()
    given = {
        "logits": logits,
        "probabilities": 1 / (1 + np.exp(-logits)),
        "binary": logits > 0,
        "bytes": (logits > 0).astype(np.uint8) * 255,
        "batch": logits[None],
    }[how]
    for number in range(2):
        np.save(films / "masks" / f"film{number}.npy", given)
    result = detect(films, "pspnet")
    found = boxes(result)
    for name, mask in (("right lung", "right lung"), ("cardiac silhouette", "heart")):
        assert found[name] == pytest.approx(slow_box(chest()[mask]), abs=1)
    assert found["right hemidiaphragm"] == pytest.approx(slow_box(chest()["right hemidiaphragm"]), abs=1)
    scores = {each["score"] for each in json.loads(result.stdout.splitlines()[0])["regions"]}
    assert scores == ({1.0} if how in ("binary", "bytes") else {0.9526})


def test_another_fit_moves_the_boxes(films):
    for number in range(2):
        np.save(films / "masks" / f"film{number}.npy", pspnet_array())
    assert boxes(detect(films, "pspnet"))[RIGHT] != boxes(detect(films, "pspnet", "--fit", "stretch"))[RIGHT]


@pytest.fixture
def label_names(tmp_path):
    path = tmp_path / "names.toml"
    path.write_text('[names]\n1 = "right lung"\n2 = "left lung"\n300 = "heart"\n301 = "heart"\n')
    return path


@pytest.mark.parametrize("how", ["png", "tif", "npy", "palette"])
def test_label_maps(films, label_names, how):
    labels = np.zeros((HEIGHT, WIDTH), np.uint16)
    for number, name in ((1, "right lung"), (2, "left lung")):
        labels[chest()[name]] = number
    lines = (films / "list.jsonl").read_text().splitlines(keepends=True)
    (films / "list.jsonl").write_text(lines[0])
    if how == "npy":
        np.save(films / "masks" / "id0.npy", labels)
    elif how == "palette":
        picture = Image.fromarray(labels.astype(np.uint8))
        picture = picture.convert("P")
        picture.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
        picture.save(films / "masks" / "film0.png")
    else:
        labels[150:160, 140:150], labels[160:170, 140:150] = 300, 301
        Image.fromarray(labels).save(films / "masks" / f"film0.{how}")
    found = boxes(detect(films, "label-map", "--mask-names", label_names))
    assert found[RIGHT] == pytest.approx(slow_box(chest()["right lung"]), abs=0.1)
    if how in ("png", "tif"):
        assert found["cardiac silhouette"] == [140, 150, 150, 170]


def test_masks_by_name_of_a_model_that_nobody_knows(films):
    (films / "names.toml").write_text('[names]\n"my_heart" = "cardiac silhouette"\n')
    for number in range(2):
        arrays = {"Left_Lung": chest()["left lung"], "my_heart": chest()["heart"], "liver": chest()["spine"]}
        np.savez(films / "masks" / f"id{number}.npz", **arrays)
    found = boxes(detect(films, "named", "--mask-names", films / "names.toml"))
    assert found[LEFT] == pytest.approx(slow_box(chest()["left lung"]), abs=0.1)
    assert "cardiac silhouette" in found and RIGHT not in found


def test_coco_with_polygons_boxes_and_plain_run_lengths(films):
    heart = chest()["heart"]
    annotations = [
        {"category_id": 1, "segmentation": [[20, 20, 120, 20, 120, 200, 20, 200]], "bbox": [0, 0, 1, 1]},
        {"category_id": 2, "bbox": [170, 20, 100, 180]},
        {"category_id": 3, "segmentation": {"size": [HEIGHT, WIDTH], "counts": runs(heart)}},
    ]
    given = {
        "images": [
            {"id": n, "file_name": f"p{n}/film{n}.png", "width": WIDTH, "height": HEIGHT} for n in range(2)
        ],
        "categories": [
            {"id": 1, "name": "Right Lung"},
            {"id": 2, "name": "left lung"},
            {"id": 3, "name": "heart"},
        ],
        "annotations": [each | {"image_id": n} for n in range(2) for each in annotations],
    }
    (films / "coco.json").write_text(json.dumps(given))
    found = boxes(detect(films, "coco", masks="coco.json"))
    assert found[RIGHT] == pytest.approx([20, 20, 120, 200], abs=1) and found[LEFT] == [170, 20, 270, 200]
    assert found["cardiac silhouette"] == pytest.approx(slow_box(heart), abs=0.1)


def test_a_name_that_two_images_share_is_nobodys(films):
    images = [{"id": n, "file_name": f"x{n}/film0.png", "width": WIDTH, "height": HEIGHT} for n in range(2)]
    (films / "coco.json").write_text(json.dumps({"images": images, "categories": [], "annotations": []}))
    result = detect(films, "coco", masks="coco.json")
    assert result.exit_code == 1 and "no masks for this film" in result.stderr


@pytest.mark.parametrize("alone", [True, False])
def test_a_coco_file_for_each_film(films, alone):
    """With one image in it the file's own name counts, with several the images' names do."""
    images = [{"id": n, "file_name": f"film{n}.png", "width": WIDTH, "height": HEIGHT} for n in range(2)]
    drawn = [{"image_id": n, "category_id": 1, "bbox": [10 + 50 * n, 20, 60, 60]} for n in range(2)]
    categories = [{"id": 1, "name": "right lung"}]
    for n in range(2):
        own = [images[n] | {"file_name": "whatever.png"}] if alone else images
        given = {"images": own, "annotations": drawn, "categories": categories}
        (films / "masks" / f"film{n}.json").write_text(json.dumps(given))
    result = detect(films, "coco")
    assert [boxes(result, n)[RIGHT][0] for n in range(2)] == [10, 60]


# Sides


def test_the_viewers_left_is_the_patients_right(films):
    for number in range(2):
        swapped = {regions.swap_sides(name): mask for name, mask in chest().items()}
        np.savez(films / "masks" / f"film{number}.npz", **swapped)
    result = detect(films, "named")
    assert [json.loads(line)["view"] for line in result.stdout.splitlines()] == ["other"] * 2
    assert not boxes(result) and result.stderr.count("--sides viewer") == 2
    found = boxes(detect(films, "named", "--sides", "viewer"))
    assert found[RIGHT] == pytest.approx(slow_box(chest()["right lung"]), abs=0.1)


# Bad input


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
        given = {"images": [{"id": 1, "file_name": "film0.png"}], "categories": [{"id": 0, "name": "heart"}]}
        path.with_suffix(".json").write_text(json.dumps(given | {"annotations": [broken]}))
    elif how == "a huge outline":
        broken = {"image_id": 1, "category_id": 0, "segmentation": {"size": [10**6, 10**6], "counts": [5]}}
        given = {"images": [{"id": 1, "file_name": "film0.png"}], "categories": [{"id": 0, "name": "heart"}]}
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
def test_bad_masks_are_one_line_and_the_others_are_done(films, how):
    ruined(films / "masks" / "film0.npy", how)
    write_cxas(films / "masks", "npz", 1)
    result = detect(films, "cxas")
    assert result.exit_code == 1 and result.stderr.count("\n") == 1 and "film0" in result.stderr
    result = detect(films, "cxas", "--rejects", films / "rejects.jsonl")
    assert [json.loads(line)["image_id"] for line in result.stdout.splitlines()] == ["id1"]
    assert json.loads((films / "rejects.jsonl").read_text())["image_id"] == "id0"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[names]\n1 = 'left shoe'\n", "names.1: no region"),
        ("[names]\nheart = 'left lung'\n", "whole numbers"),
        ("names = 3\n", "one table is expected"),
        ("[names\n", "not TOML"),
    ],
)
def test_bad_names_are_one_line(films, text, said):
    (films / "names.toml").write_text(text)
    result = detect(films, "label-map", "--mask-names", films / "names.toml")
    assert result.exit_code == 1 and said in result.stderr and result.stderr.count("\n") == 1


def test_what_does_not_go_together_is_a_usage_error(films):
    command = ["detect-anatomy", str(films / "list.jsonl"), "--masks", str(films / "masks")]
    for flags in ([], ["--model", str(films / "list.jsonl"), "--mask-format", "cxas"]):
        assert CliRunner().invoke(cli, [*command, *flags]).exit_code == 2


def test_masks_taken_otherwise_are_not_mixed(films):
    for number in range(2):
        np.save(films / "masks" / f"film{number}.npy", pspnet_array())
    target = films / "out.jsonl"
    assert detect(films, "pspnet", "-o", target).exit_code == 0
    assert detect(films, "pspnet", "--resume", "-o", target).exit_code == 0
    result = detect(films, "pspnet", "--fit", "stretch", "--resume", "-o", target)
    assert result.exit_code == 1 and "boxes of another model" in result.stderr
