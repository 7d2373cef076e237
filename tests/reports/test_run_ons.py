"""Clauses that run on without a full stop or a conjunction."""

from itertools import permutations

from medground.records import Report
from medground.reports.parser import Parser

PARSER = Parser()
CLAUSES = [
    "there is no pneumothorax",
    "small left pleural effusion",
    "the heart is not enlarged",
    "lungs clear",
    "aorta tortuous",
    "left basilar atelectasis is unchanged",
    "edema has resolved",
    "no consolidation is seen",
    "right PICC in place",
    "endotracheal tube removed",
    "hila are normal",
    "stable scoliosis",
    "nodule in the right upper lobe",
    "lung volumes are low",
]


def triplets(text):
    found = PARSER.parse_report(Report(study_id="s1", text=text))
    return {(t.finding, t.existence, t.region) for sentence in found for t in sentence.triplets}


def test_two_clauses_without_a_joint_say_what_each_says():
    alone = {clause: triplets(clause) for clause in CLAUSES}
    pairs = [(f"{one} {other}", alone[one] | alone[other]) for one, other in permutations(CLAUSES, 2)]
    assert [text for text, wanted in pairs if triplets(text) != wanted] == []
