"""Questions about a phantom's image whose answers follow from the ground truth."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medground.phantom.cohort import Study
from medground.phantom.findings import DEVICES, Finding

NAMES = {
    "pneumothorax": "pneumothorax",
    "enlarged cardiac silhouette": "cardiomegaly",
    "pleural effusion": "pleural effusion",
    "atelectasis": "atelectasis",
    "pulmonary edema/hazy opacity": "pulmonary edema",
    "lung opacity": "lung opacity",
    "pneumonia": "pneumonia",
    "consolidation": "consolidation",
    "mass/nodule (not otherwise specified)": "nodule",
    "endotracheal tube": "endotracheal tube",
    "cardiac pacer and wires": "pacemaker",
    "chest tube": "chest tube",
}
PLACED = {
    "atelectasis",
    "lung opacity",
    "pneumonia",
    "consolidation",
    "mass/nodule (not otherwise specified)",
}


@dataclass(frozen=True, slots=True)
class PhantomQuestion:
    """A question with its true answer; `kind` is VQA-RAD's question_type."""

    text: str
    answer: str
    kind: str
    closed: bool


def of(study: Study) -> list[PhantomQuestion]:
    """Return the questions about a study: two or three of presence with equal shares of yes, one of the view,
    and those of side, place and severity of one finding.

    The choice depends only on the image's ID.
    """
    rng = np.random.default_rng([int(part, 16) for part in study.image_id.split("-")])
    return list(_questions(study, rng))


def _questions(study: Study, rng: np.random.Generator) -> Iterator[PhantomQuestion]:
    seen = [each for each in study.findings if each.box and each.name in NAMES]
    there = sorted({each.name for each in seen})
    lacking = sorted(set(NAMES) - {each.name for each in study.findings})
    if there:
        yield _presence(str(rng.choice(there)), "Yes")
    if lacking:
        yield _presence(str(rng.choice(lacking)), "No")
    yield PhantomQuestion("Is this an AP or a PA view?", study.exposure.view, "PLANE", True)
    # only findings whose answer is unique in this image
    single = [each for each in seen if sum(e.name == each.name for e in seen) == 1]
    sided = [each for each in single if each.side and each.name not in DEVICES]
    if sided:
        yield from _details(sided[int(rng.integers(len(sided)))])


def _presence(name: str, answer: str) -> PhantomQuestion:
    return PhantomQuestion(f"Is there evidence of {_article(NAMES[name])}?", answer, "PRES", True)


def _details(finding: Finding) -> Iterator[PhantomQuestion]:
    name = NAMES[finding.name]
    yield PhantomQuestion(f"Which side is the {name} on?", str(finding.side), "POS", False)
    yield PhantomQuestion(f"How large is the {name}?", finding.severity, "SIZE", False)
    if finding.name in PLACED:
        yield PhantomQuestion(f"Where is the {name}?", finding.regions[0], "POS", False)


def _article(name: str) -> str:
    mass = {"cardiomegaly", "atelectasis", "pulmonary edema", "pneumonia", "consolidation"}
    return name if name in mass else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
