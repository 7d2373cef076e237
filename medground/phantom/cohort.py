"""The cohort: patient by patient, from a seed to a study with image, report and truth.

A patient depends only on (seed, patient, size), never on other patients or on the number of workers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medground.phantom.findings import Finding, draw_findings
from medground.phantom.lateral import render_lateral
from medground.phantom.patient import Exposure, Patient, draw_exposure, draw_patient
from medground.phantom.report import Report, write_report
from medground.phantom.scene import render_scene
from medground.records import Box

# MIMIC's subjects are 10000000 to 19999999, its studies 50000000 to 59999999: no phantom is one of them.
SUBJECT, STUDY = 90_000_000, 60_000_000
SPLITS = (("train", 0.7), ("validate", 0.1), ("test", 0.2))


@dataclass(slots=True)
class Lateral:
    """The second image of some studies; it has no boxes."""

    image_id: str
    image: NDArray[np.uint8]


@dataclass(slots=True)
class Study:
    """One patient's study: a frontal image with its findings and report, and in some studies a lateral image.

    `image` is (H, W) uint8; `regions` the boxes of the Chest ImaGenome regions in the image.
    """

    subject_id: str
    study_id: str
    image_id: str
    split: str
    patient: Patient
    exposure: Exposure
    image: NDArray[np.uint8]
    regions: dict[str, Box]
    findings: list[Finding]
    report: Report
    lateral: Lateral | None = None

    @property
    def triplets(self) -> list[dict[str, Any]]:
        """The true triplets of each sentence, as in `truth/triplets.jsonl`."""
        return [
            {
                "study_id": self.study_id,
                "section": said.section,
                "start": said.start,
                "end": said.end,
                "text": said.text,
                "triplets": [
                    {"region": region, "finding": finding, "existence": existence}
                    for region, finding, existence in said.means
                ],
            }
            for said in self.report.said
        ]


def generator(seed: int, patient: int) -> np.random.Generator:
    """Return the random generator of the patient."""
    return np.random.default_rng(np.random.SeedSequence([seed, patient]))


def render(seed: int, patient: int, size: int, laterals: float = 0.0) -> Study:
    """Return one patient of the cohort; `size` is the images' long side in pixels, `laterals` the share of
    patients who have a lateral image too (which changes nothing else).
    """
    rng = generator(seed, patient)
    split, image_id = _split(float(rng.random())), _image_id(rng)
    body = draw_patient(rng)
    view = "AP" if rng.random() < 0.45 else "PA"
    exposure = draw_exposure(rng, size, view)
    findings = draw_findings(rng, body, view)
    image, regions = render_scene(rng, body, exposure, findings)
    report = write_report(rng, body, view, findings)
    return Study(
        subject_id=f"p{SUBJECT + patient}",
        study_id=f"s{STUDY + patient * 7919 % 9_999_991}",
        image_id=image_id,
        split=split,
        patient=body,
        exposure=exposure,
        image=image,
        regions=regions,
        findings=findings,
        report=report,
        lateral=_lateral(seed, patient, body, size, laterals),
    )


def _lateral(seed: int, patient: int, body: Patient, size: int, share: float) -> Lateral | None:
    rng = np.random.default_rng(np.random.SeedSequence([seed, patient, 1]))
    if rng.random() >= share:
        return None
    return Lateral(_image_id(rng), render_lateral(rng, body, size))


def _split(draw: float) -> str:
    for name, share in SPLITS:
        if draw < share:
            return name
        draw -= share
    return SPLITS[-1][0]


def _image_id(rng: np.random.Generator) -> str:
    return "-".join(f"{int(word):08x}" for word in rng.integers(0, 2**32, 5))
