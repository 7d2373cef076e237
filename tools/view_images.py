"""Make images that are no single upright frontal view from phantoms and frontal images (tools/train_view).

Letters: H x W pixels of an image in [0, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from medground.phantom import organs, splat
from medground.phantom.beam import Beam, aim
from medground.phantom.lateral import render_lateral
from medground.phantom.patient import SIDES, Patient, draw_exposure, draw_patient
from medground.phantom.skeleton import rib_path
from medground.phantom.solids import Solid, coarse_grid
from medground.phantom.vessel_tree import vessel_tree

Pixels = NDArray[np.float32]
Mask = NDArray[np.bool_]
HEIGHT = 256  # pixels of a row of panels
MARKS = ("L", "R", "AP", "A", "B", "PORTABLE", "SUPINE", "12/03", "Day 3")


def lateral(rng: np.random.Generator, size: int) -> Pixels:
    """Return a lateral view of a phantom; the patient faces left or right."""
    image = render_lateral(rng, draw_patient(rng), size).astype(np.float32) / 255
    return image[:, ::-1].copy() if rng.random() < 0.5 else image


@dataclass
class Section:
    """A coronal section of a phantom at one depth, as CT shows it: black lungs with bright vessels."""

    rng: np.random.Generator
    patient: Patient
    beam: Beam
    depth: float

    @classmethod
    def draw(cls, rng: np.random.Generator, size: int) -> "Section":
        """Return a section at a random depth."""
        patient, depth = draw_patient(rng), float(rng.uniform(-6, 3))
        exposure = draw_exposure(rng, size, "PA")
        exposure.reach, exposure.distance = float(rng.uniform(0.6, 1.0)), 1e4
        return cls(rng, patient, aim(patient, exposure), depth)

    def image(self) -> Pixels:
        """Return the (H, W) section."""
        rng, chest = self.rng, organs.build_chest(coarse_grid(self.beam), self.patient)
        soft, lung, bone = rng.uniform(0.4, 0.8), rng.uniform(0.0, 0.25), rng.uniform(0.85, 1.0)
        thick = organs.body_path(chest.grid, self.patient) / 2
        body = thick > abs(self.depth + 1) * rng.uniform(0.6, 1)
        image = np.where(body, soft, 0.0).astype(np.float32)
        flesh = ndimage.binary_erosion(body, iterations=max(1, int(rng.uniform(1, 6))))
        image[body & ~flesh] = soft * rng.uniform(0.3, 0.8)  # fat
        for solid in (*chest.heart.values(), *chest.vessels.values()):
            image[self._cut(solid) & body] = soft * rng.uniform(0.9, 1.25)
        inside = np.zeros(body.shape, bool)
        for side in SIDES:
            dome = self._cut(chest.domes[side])
            image[dome & body] = soft * rng.uniform(0.9, 1.2)
            inside |= self._cut(chest.cages[side]) & ~dome & ~self._cut(chest.front) & ~self._cut(chest.back)
        image = np.where(inside, lung + (soft - lung) * self._haze(body.shape), image)
        image = np.where(inside & self._vessels(body.shape), np.maximum(image, rng.uniform(0.4, 1)), image)
        image = np.where(self._bones(body.shape) & body & ~inside, bone, image)
        noise = rng.normal(0, rng.uniform(0, 0.06), body.shape)
        image = np.clip(ndimage.gaussian_filter(image, rng.uniform(0, 1)) + noise, 0, 1)
        return resized(image, self.beam.width, self.beam.height)

    def _cut(self, solid: Solid) -> Mask:
        return np.asarray((solid[0] < self.depth) & (self.depth < solid[1]))

    def _haze(self, shape: tuple[int, ...]) -> Pixels:
        texture = ndimage.gaussian_filter(self.rng.standard_normal(shape), self.rng.uniform(1, 6))
        level = self.rng.uniform(0.5, 3)
        return np.clip(texture / max(float(texture.std()), 1e-6) - level, 0, 1) * self.rng.uniform(0, 1)

    def _vessels(self, shape: tuple[int, ...]) -> Mask:
        scale = self.beam.scale * shape[1] / self.beam.width
        parts = [splat.samples(vessel_tree(self.rng, self.patient, side), scale)[0] for side in SIDES]
        return self._near(np.concatenate(parts), 0.7, shape)

    def _bones(self, shape: tuple[int, ...]) -> Mask:
        paths = [rib_path(self.patient, side, number) for side in SIDES for number in range(1, 13)]
        wide = max(2, int(1.1 * self.beam.scale * shape[1] / self.beam.width))
        found: Mask = ndimage.maximum_filter(self._near(np.concatenate(paths), 0.8, shape), size=wide)
        if self.depth < -3:
            rows, columns = np.mgrid[: shape[0], : shape[1]] * (self.beam.width / shape[1])
            across = (columns - self.beam.x0) / self.beam.scale
            found |= (np.abs(across) < 1.8) & ((rows - self.beam.y0) / self.beam.scale / 2.3 % 1 < 0.8)
        return found

    def _near(self, points: Pixels, reach: float, shape: tuple[int, ...]) -> Mask:
        """Return the pixels of the points that are close to the section."""
        near = points[np.abs(points[:, 2] - self.depth) < reach]
        columns, rows = (self.beam.project(near) * shape[1] / self.beam.width).astype(int).T
        kept = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
        found = np.zeros(shape, bool)
        found[rows[kept], columns[kept]] = True
        return found


def coronal(rng: np.random.Generator, size: int) -> Pixels:
    """Return a coronal section of a phantom."""
    return Section.draw(rng, size).image()


def axial(rng: np.random.Generator, size: int) -> Pixels:
    """Return a drawing of an axial section: an oval body, two lungs, heart and vertebra."""
    picture = Image.new("F", (size, int(size * rng.uniform(0.7, 1.0))), 0.0)
    draw, (w, h) = ImageDraw.Draw(picture), picture.size
    soft, lung = float(rng.uniform(0.4, 0.8)), float(rng.uniform(0, 0.3))

    def oval(x: float, y: float, a: float, b: float, shade: float) -> None:
        draw.ellipse(((x - a) * w, (y - b) * h, (x + a) * w, (y + b) * h), fill=float(shade))

    oval(0.5, 0.5, rng.uniform(0.42, 0.5), rng.uniform(0.36, 0.48), soft)
    for side in (-1, 1):
        x, y = 0.5 + side * rng.uniform(0.17, 0.22), rng.uniform(0.45, 0.55)
        oval(x, y, rng.uniform(0.1, 0.16), rng.uniform(0.22, 0.33), lung)
    x, y = rng.uniform(0.5, 0.6), rng.uniform(0.35, 0.45)
    oval(x, y, rng.uniform(0.08, 0.16), rng.uniform(0.1, 0.18), soft * 1.2)
    oval(0.5, rng.uniform(0.72, 0.8), 0.05, 0.06, 1.0)
    for _ in range(int(rng.integers(20, 150))):
        r = rng.uniform(0.5, 3)
        oval(rng.uniform(0.2, 0.8), rng.uniform(0.25, 0.75), r / w, r / h, rng.uniform(0.4, 1))
    image = ndimage.gaussian_filter(np.asarray(picture), rng.uniform(0, 1.2))
    return np.clip(image + rng.normal(0, rng.uniform(0, 0.06), image.shape), 0, 1).astype(np.float32)


def panels(rng: np.random.Generator, images: Sequence[Pixels]) -> Pixels:
    """Return a figure of two to four panels, next to or above each other, with or without a gap."""
    shade = 1.0 if rng.random() < 0.5 else 0.0
    gap = int(rng.integers(0, 14)) if rng.random() < 0.75 else 0
    if len(images) == 4:
        rows = [_row(rng, some, gap, shade) for some in (images[:2], images[2:])]
        return _lettered(rng, _row(rng, [each.T for each in rows], gap, shade).T)
    if rng.random() < 0.75:
        return _lettered(rng, _row(rng, images, gap, shade))
    return _lettered(rng, _row(rng, [each.T for each in images], gap, shade).T)


def _row(rng: np.random.Generator, images: Sequence[Pixels], gap: int, shade: float) -> Pixels:
    """Return the images next to each other, mostly of one height."""
    made, same = [], rng.random() < 0.8
    for each in images:
        high = HEIGHT if same else int(HEIGHT * rng.uniform(0.6, 1))
        small = resized(each, max(8, round(each.shape[1] * high / each.shape[0])), high)
        top = 0 if same else int(rng.integers(0, HEIGHT - high + 1))
        rows = ((top, HEIGHT - high - top), (0, 0))
        made += [np.pad(small, rows, constant_values=shade), np.full((HEIGHT, gap), shade, np.float32)]
    return np.concatenate(made[:-1], axis=1)


def _lettered(rng: np.random.Generator, image: Pixels) -> Pixels:
    """Return the figure, half of the time with the letters A and B."""
    if rng.random() < 0.5:
        return image
    picture = _picture(image)
    draw, (w, h) = ImageDraw.Draw(picture), picture.size
    font = ImageFont.load_default(max(8, int(rng.uniform(0.05, 0.12) * min(w, h))))
    shade, y = float(rng.random() < 0.7), float(rng.choice([0.02, 0.85])) * h
    for number, letter in enumerate("AB"):
        draw.text((w * (0.02 + 0.5 * number), y), letter, fill=shade, font=font)
    return np.asarray(picture)


def degraded(rng: np.random.Generator, image: Pixels, crop: float = 0.12) -> Pixels:
    """Return a crop of the image with other gray values, sharpness, marks and borders."""
    height, width = image.shape
    top, low, left, right = rng.uniform(0, crop, 4) * (rng.random(4) < 0.6)
    image = image[int(top * height) : int((1 - low) * height), int(left * width) : int((1 - right) * width)]
    if rng.random() < 0.3:
        mode = "nearest" if rng.random() < 0.5 else "constant"
        image = ndimage.rotate(image, rng.normal(0, 5), reshape=False, order=1, mode=mode)
    if rng.random() < 0.4:
        height, width = image.shape
        pads = (rng.uniform(0, 0.12, 4) * (rng.random(4) < 0.6) * [height, height, width, width]).astype(int)
        image = np.pad(image, (pads[:2], pads[2:]), constant_values=float(rng.random() < 0.3))
    if rng.random() < 0.25:
        height, width = image.shape
        image = resized(image, max(16, int(width * np.exp(rng.normal(0, 0.12)))), height)
    if rng.random() < 0.2:
        image = ndimage.gaussian_filter(image, rng.uniform(0.3, 1.5))
    image = np.clip(image, 0, 1) ** np.exp(rng.normal(0, 0.35))
    image = (image - 0.5) * rng.uniform(0.7, 1.3) + 0.5 + rng.uniform(-0.1, 0.1)
    image = image + rng.normal(0, rng.uniform(0, 0.04), image.shape) * (rng.random() < 0.4)
    image = np.clip(image, 0, 1).astype(np.float32)
    if rng.random() < 0.35:
        image = _marked(rng, image)
    return 1 - image if rng.random() < 0.04 else image


def _marked(rng: np.random.Generator, image: Pixels) -> Pixels:
    """Return the image with some words and arrows."""
    picture = _picture(image)
    draw, (w, h) = ImageDraw.Draw(picture), picture.size
    for _ in range(int(rng.integers(1, 4))):
        x, y, shade = rng.uniform(0, 0.9) * w, rng.uniform(0, 0.9) * h, float(rng.random() < 0.8)
        if rng.random() < 0.6:
            font = ImageFont.load_default(max(8, int(rng.uniform(0.03, 0.1) * h)))
            draw.text((x, y), str(rng.choice(MARKS)), fill=shade, font=font)
        else:
            dx, dy = rng.normal(0, 0.06, 2)
            draw.line((x, y, x + dx * w, y + dy * h), fill=shade, width=max(1, int(0.006 * w)))
    return np.asarray(picture)


def resized(image: Pixels, width: int, height: int) -> Pixels:
    """Return the image at another size."""
    return np.asarray(_picture(image).resize((width, height)))


def _picture(image: Pixels) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image, np.float32), mode="F")
