"""Masks of one drawn chest, in the files of mask models, and the command that reads them."""

import json

import numpy as np
from click.testing import CliRunner
from PIL import Image

from medground.anatomy import masks
from medground.cli.main import cli

WIDTH, HEIGHT = 300, 240
RIGHT, LEFT = "right lung", "left lung"


def ellipse(x, y, rx, ry, width=WIDTH, height=HEIGHT):
    down, across = np.mgrid[0:height, 0:width] + 0.5
    return ((across / width - x) / rx) ** 2 + ((down / height - y) / ry) ** 2 <= 1


def chest(width=WIDTH, height=HEIGHT):
    """Return masks under CXAS's names: lungs, heart, spine, windpipe, domes."""
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


def write_images(folder):
    """Write two images in own folders, a list of them, and a folder for masks; return `folder`."""
    lines = []
    for number in range(2):
        path = folder / "images" / f"p{number}" / f"image{number}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((HEIGHT, WIDTH), 90, np.uint8)).save(path)
        lines.append({"image_id": f"id{number}", "path": f"p{number}/image{number}.png", "split": "test"})
    (folder / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "masks").mkdir()
    return folder


def detect(folder, kind, *flags, masks="masks"):
    command = ["detect-anatomy", str(folder / "list.jsonl"), "--images", str(folder / "images")]
    source = ["--masks", str(folder / masks), "--mask-format", kind]
    return CliRunner().invoke(cli, [*command, *source, *map(str, flags)])


def boxes(result, line=0):
    assert result.exit_code == 0, result.stderr
    anatomy = json.loads(result.stdout.splitlines()[line])
    return {each["name"]: each["box"] for each in anatomy["regions"]}


def cxas_array(found):
    """Return all 159 channels, as CXAS stacks them."""
    classes = masks.model("cxas").classes
    empty = np.zeros((HEIGHT, WIDTH), bool)
    return np.stack([found.get(name, empty) for name in classes])


def write_cxas(folder, how, number):
    """Write one image's masks, as CXAS's FileSaver does."""
    array, name = cxas_array(chest()), f"image{number}"
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
    """Return COCO's run lengths, counted one pixel after the other."""
    lengths, now = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != now:
            lengths.append(0)
            now = pixel
        lengths[-1] += 1
    return lengths


def packed(lengths):
    """Pack run lengths as COCO does: pycocotools' rleToString, digit by digit."""
    text = ""
    for place, length in enumerate(lengths):
        rest, more = length - (lengths[place - 2] if place > 2 else 0), True
        while more:
            digit, rest = rest & 31, rest >> 5
            more = rest != (-1 if digit & 16 else 0)
            text += chr(digit + (32 if more else 0) + 48)
    return text


def write_cxas_json(path, name, array):
    """Write a COCO file whose one image is packed in a list of its own, and has no size."""
    annotations = []
    for number, mask in enumerate(array):
        if mask.any():
            outline = {"size": list(mask.shape), "counts": packed(runs(mask))}
            annotations.append({"image_id": 1, "category_id": number, "segmentation": outline})
    categories = [{"id": n, "name": each} for n, each in enumerate(masks.model("cxas").classes)]
    images = [[{"id": 1, "file_name": f"/data/{name}.png"}]]
    path.write_text(json.dumps({"images": images, "categories": categories, "annotations": annotations}))


def pspnet_array():
    """Return (14, 512, 512) logits of the center square of a 300 x 240 image, as TorchXRayVision does."""
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
