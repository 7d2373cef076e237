"""The phantom's anatomy and physics: what must hold of every image, and what each finding must change."""

import numpy as np
import pytest

from medground.phantom import image_formation
from medground.phantom.beam import aim
from medground.phantom.cohort import generator, render
from medground.phantom.findings import CATEGORY, Finding, draw_findings
from medground.phantom.patient import SIDES, Exposure, Patient, draw_exposure, draw_patient
from medground.phantom.regions import span_box
from medground.phantom.scene import _in_lung, project
from medground.phantom.solids import coarse_grid, ellipsoid, length, outside
from medground.phantom.splat import draw, samples, smooth, tube
from medground.phantom.vessel_tree import vessel_tree

SIZE = 128


@pytest.fixture(scope="module")
def studies():
    return [render(3, patient, SIZE) for patient in range(25)]


def calm(view: str = "PA", seed: int = 0) -> tuple[Patient, Exposure]:
    """A patient in the middle of a straight image."""
    patient = draw_patient(generator(seed, 0))
    exposure = draw_exposure(generator(seed, 1), 192, view)
    exposure.rotation = exposure.tilt = exposure.roll = 0.0
    exposure.reach, exposure.shift = 0.7, (0.0, 0.0)
    return patient, exposure


def scene_with(*findings: Finding, view: str = "PA", seed: int = 0):
    patient, exposure = calm(view, seed)
    return project(generator(seed, 2), patient, exposure, list(findings))


def inside(attenuation, box):
    x1, y1, x2, y2 = (round(side) for side in box)
    return attenuation[y1:y2, x1:x2]


@pytest.mark.slow
def test_every_box_lies_inside_its_image_and_has_an_area(studies):
    for study in studies:
        height, width = study.image.shape
        found = [*study.regions.values(), *(each.box for each in study.findings if each.box)]
        for x1, y1, x2, y2 in found:
            assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height


@pytest.mark.slow
def test_the_long_side_is_the_size_and_the_image_is_grey_bytes(studies):
    assert {max(study.image.shape) for study in studies} == {SIZE}
    assert {study.image.dtype for study in studies} == {np.dtype(np.uint8)}
    assert len({study.image.shape for study in studies}) > 1


@pytest.mark.slow
def test_the_patients_left_is_on_the_pictures_right(studies):
    paired = {name[5:] for name in studies[0].regions if name.startswith("left ")}
    for study in studies:
        for name in paired:
            if {f"left {name}", f"right {name}"} <= study.regions.keys():
                left, right = study.regions[f"left {name}"], study.regions[f"right {name}"]
                assert left[0] + left[2] > right[0] + right[2]


@pytest.mark.slow
def test_zones_lie_in_their_lung_from_top_to_bottom(studies):
    for study in studies:
        for side in SIDES:
            zones = [f"{side} {each} lung zone" for each in ("upper", "mid", "lower")]
            if not {f"{side} lung", *zones} <= study.regions.keys():
                continue
            lung = study.regions[f"{side} lung"]
            boxes = [study.regions[each] for each in zones]
            for x1, y1, x2, y2 in boxes:
                assert x1 >= lung[0] - 2 and y1 >= lung[1] - 2 and x2 <= lung[2] + 2 and y2 <= lung[3] + 2
            assert boxes[0][1] < boxes[1][1] < boxes[2][1]


@pytest.mark.slow
def test_the_carina_is_at_the_lower_end_of_the_trachea(studies):
    for study in studies:
        trachea, carina = study.regions.get("trachea"), study.regions.get("carina")
        if trachea and carina:
            assert carina[1] < trachea[3] < carina[3] + 1
            assert trachea[0] < (carina[0] + carina[2]) / 2 < trachea[2]


@pytest.mark.slow
def test_the_costophrenic_angle_is_at_the_lungs_lower_outer_corner(studies):
    for study in studies:
        for side, outer in (("right", 0), ("left", 2)):
            lung, angle = study.regions.get(f"{side} lung"), study.regions.get(f"{side} costophrenic angle")
            if lung and angle:
                assert angle[1] < lung[3] <= angle[3] + 0.1
                assert angle[0] - 2 <= lung[outer] <= angle[2] + 2


@pytest.mark.slow
def test_the_lungs_are_darker_than_what_lies_between_and_below_them():
    for seed in range(6):
        scene = scene_with(seed=seed)
        lungs = [
            np.median(inside(scene.attenuation, scene.regions[f"{side} mid lung zone"])) for side in SIDES
        ]
        x1, y1, x2, _ = scene.regions["cardiac silhouette"]
        heart = np.median(inside(scene.attenuation, (x1, y1, x2, scene.regions["left hemidiaphragm"][1])))
        abdomen = np.median(inside(scene.attenuation, scene.regions["abdomen"]))
        assert max(lungs) + 0.3 < heart
        assert max(lungs) + 0.2 < abdomen


@pytest.mark.slow
def test_the_heart_reaches_farther_to_the_left(studies):
    for seed in range(6):
        scene = scene_with(seed=seed)
        middle = scene.beam.x0
        x1, _, x2, _ = scene.regions["cardiac silhouette"]
        assert x2 - middle > middle - x1 > 0


@pytest.mark.slow
def test_an_ap_image_magnifies_the_heart():
    shares = []
    for view in ("PA", "AP"):
        patient, exposure = calm(view)
        exposure.width, exposure.height, exposure.distance = 512, 512, 180 if view == "PA" else 100
        scene = project(generator(0, 2), patient, exposure, [])
        heart, right, left = (scene.regions[n] for n in ("cardiac silhouette", "right lung", "left lung"))
        shares.append((heart[2] - heart[0]) / (left[2] - right[0]))
    assert shares[1] > 1.02 * shares[0]


@pytest.mark.slow
@pytest.mark.parametrize("severity", ["small", "moderate", "large"])
@pytest.mark.parametrize("side", SIDES)
def test_an_effusion_brightens_its_own_costophrenic_angle_alone(side, severity):
    finding = Finding("pleural effusion", 0, side, severity, [f"{side} costophrenic angle"])
    with_fluid, without = scene_with(finding), scene_with()
    change = with_fluid.attenuation - without.attenuation
    other = "left" if side == "right" else "right"
    assert inside(change, without.regions[f"{side} costophrenic angle"]).mean() > 0.05
    assert abs(inside(change, without.regions[f"{other} costophrenic angle"]).mean()) < 1e-3
    assert finding.box is not None and finding.box[3] > without.regions[f"{side} lower lung zone"][1]


@pytest.mark.slow
def test_a_larger_effusion_reaches_higher():
    tops = []
    for severity in ("small", "moderate", "large"):
        finding = Finding("pleural effusion", 0, "left", severity, ["left costophrenic angle"])
        scene_with(finding)
        tops.append(finding.box[1])
    assert tops == sorted(tops, reverse=True)


def test_a_pneumothorax_darkens_the_lungs_edge_and_has_no_vessels_beyond_its_line():
    finding = Finding("pneumothorax", 0, "left", "moderate", ["left lung"])
    air, without = scene_with(finding), scene_with()
    change = air.attenuation - without.attenuation
    assert inside(change, without.regions["left apical zone"]).mean() < -0.02
    points, _, _ = samples(vessel_tree(generator(0, 3), air.chest.patient, "left"), 6.0)
    before, after = (_in_lung(scene.chest, "left", points) for scene in (without, air))
    assert (after & ~before).sum() == 0
    assert (before & ~after).sum() > 50


@pytest.mark.slow
def test_the_cardiothoracic_ratio_is_the_requested_one():
    for ratio in (0.42, 0.5, 0.6):
        patient, exposure = calm()
        patient.ctr = ratio
        scene = project(generator(0, 2), patient, exposure, [])
        heart, right, left = (scene.regions[n] for n in ("cardiac silhouette", "right lung", "left lung"))
        assert (heart[2] - heart[0]) / (left[2] - right[0]) == pytest.approx(ratio, abs=0.045)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["consolidation", "lung opacity", "pneumonia", "atelectasis"])
def test_an_opacity_lies_in_the_zone_that_it_is_said_to_lie_in(name):
    for seed in range(8):
        region = "right lower lung zone" if seed % 2 else "left mid lung zone"
        finding = Finding(name, 0, region.split()[0], "moderate", [region])
        scene = scene_with(finding, seed=seed)
        zone = scene.regions[region]
        x, y = (finding.box[0] + finding.box[2]) / 2, (finding.box[1] + finding.box[3]) / 2
        assert zone[0] < x < zone[2] and zone[1] - 4 < y < zone[3] + 4


@pytest.mark.slow
def test_edema_brightens_both_lungs_and_the_hila_most():
    findings = [Finding("pulmonary edema/hazy opacity", 0, s, "moderate", [f"{s} lung"]) for s in SIDES]
    change = scene_with(*findings).attenuation - scene_with().attenuation
    regions = scene_with().regions
    for side in SIDES:
        hilum = inside(change, regions[f"{side} hilar structures"]).mean()
        assert hilum > inside(change, regions[f"{side} apical zone"]).mean() > 0


def test_findings_use_the_published_names():
    drawn = [each for seed in range(200) for each in draw_findings(generator(seed, 0), calm()[0], "AP")]
    assert {each.category for each in drawn} - {None} == set(CATEGORY.values())
    assert any(not each.mentioned for each in drawn)
    assert len({each.severity for each in drawn}) == 3


def test_a_thin_tube_leaves_its_mass_whatever_its_direction():
    patient, exposure = calm()
    beam = aim(patient, exposure)
    for end in ((4.0, 10.0, 0.0), (0.5, 14.0, 0.0), (0.5, 10.3, 4.0)):
        image = np.zeros((exposure.height, exposure.width), np.float32)
        path = smooth([(0.0, 10.0, 0.0), end], 20)
        draw(image, beam, tube(path, 0.2, 1.0))
        volume = np.pi * 0.2**2 * np.linalg.norm(np.subtract(end, (0.0, 10.0, 0.0)))
        pixel = 1 / (beam.scale * beam.magnification(0.0)) ** 2
        assert image.sum() * pixel == pytest.approx(volume, rel=0.06)


def test_projected_points_and_planes_are_inverse_to_each_other():
    patient = draw_patient(generator(0, 0))
    exposure = draw_exposure(generator(0, 1), 200, "AP")
    beam = aim(patient, exposure)
    points = generator(0, 2).uniform([-10, 0, -6], [10, 20, 6], (50, 3))
    at = beam.project(points)
    for (x, y, z), (u, v) in zip(points, at, strict=True):
        back = beam.plane(np.float32([[u]]), np.float32([[v]]), z)
        assert np.hypot(back[0][0, 0] - x, back[1][0, 0] - y) < 1e-3


@pytest.mark.parametrize("middle", [(0, 10), (11, -6), (-14, 28), (0, 60), (90, 0)])
@pytest.mark.parametrize("angle", [0.0, 0.7, -1.2])
def test_an_ellipsoid_in_a_window_is_that_of_the_whole_grid(middle, angle):
    patient = draw_patient(generator(0, 0))
    grid = coarse_grid(aim(patient, draw_exposure(generator(0, 1), 200, "AP")))
    semi = (7, 2, 3)
    near, far = ellipsoid(grid, (*middle, 1.5), semi, angle, 2.3)
    x, y = grid.plane(1.5)
    dx, dy = x - middle[0], y - middle[1]
    along, across = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
    inside = 1 - np.abs(along / semi[0]) ** 2.3 - np.abs(across / semi[1]) ** 2.3
    half = semi[2] * np.sqrt(np.maximum(inside, 0))
    np.testing.assert_allclose(near, 1.5 - half, atol=1e-9)
    np.testing.assert_allclose(far, 1.5 + half, atol=1e-9)


@pytest.mark.slow
def test_the_path_outside_three_overlapping_solids_against_a_slow_reference():
    grid = coarse_grid(aim(*calm()))
    body = ellipsoid(grid, (0, 10, 0), (9, 9, 8))
    others = [
        ellipsoid(grid, (1, 10, 1), (5, 5, 3)),
        ellipsoid(grid, (-1, 11, -1), (5, 4, 3)),
        ellipsoid(grid, (0, 9, 3), (6, 6, 4)),
    ]
    z = np.linspace(-9, 9, 3601)[:, None, None]
    free = (z > body[0]) & (z < body[1])
    for near, far in others:
        free &= ~((z > near) & (z < far))
    slow = free.sum(axis=0) * (z[1, 0, 0] - z[0, 0, 0])
    assert np.abs(outside(body, others) - slow).max() < 0.03
    assert np.abs(outside(body, []) - length(body)).max() == 0


def test_a_wide_blur_made_on_a_small_copy_is_close_to_the_direct_one():
    from scipy import ndimage

    image = generator(0, 0).random((200, 160)).astype(np.float32)
    image = ndimage.gaussian_filter(image, 5)
    direct = ndimage.gaussian_filter(image, 14, mode="nearest")
    assert np.abs(image_formation.blurred(image, 14) - direct).max() < 0.3 * np.ptp(direct)


def test_a_rectangle_in_the_patient_becomes_its_box_on_the_image():
    patient, exposure = calm()
    grid = coarse_grid(aim(patient, exposure))
    x1, y1, x2, y2 = span_box(grid, (-2, 3), (4, 6))
    k = grid.beam.scale * grid.beam.magnification(0.0)
    assert (x2 - x1, y2 - y1) == (pytest.approx(5 * k), pytest.approx(2 * k))
