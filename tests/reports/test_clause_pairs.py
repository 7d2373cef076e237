"""Two independent clauses say together what each says alone, whatever joins them."""

from itertools import permutations

import pytest

from medground.records import Report
from medground.reports.parser import Parser

PARSER = Parser()
CLAUSES = [
    "there is no pneumothorax",
    "there is a small left pleural effusion",
    "no consolidation is seen",
    "the heart is enlarged",
    "the lungs are clear",
    "the aorta is tortuous",
    "a nodule is seen in the right upper lobe",
    "the left costophrenic angle is blunted",
    "the hila are normal",
    "the right hemidiaphragm is elevated",
    "edema has resolved",
    "the endotracheal tube has been removed",
    "a right PICC is in place",
    "the trachea is midline",
    "there is no evidence of fracture",
    "stable scoliosis",
    "left basilar atelectasis is unchanged",
    "the right base is hazy",
]
JOINTS = ["; ", ", and ", ", but ", " while ", ", whereas ", ", although ", ", however, ", " and ", ", "]


def triplets(text):
    found = PARSER.parse_report(Report(study_id="s1", text=f"{text[0].upper()}{text[1:]}."))
    return {(t.finding, t.existence, t.region) for sentence in found for t in sentence.triplets}


ALONE = {clause: triplets(clause) for clause in CLAUSES}


@pytest.mark.parametrize("joint", JOINTS)
def test_a_joint_of_two_clauses_changes_neither(joint):
    wrong = []
    for one, other in permutations(CLAUSES, 2):
        shared = {finding for finding, _, _ in ALONE[one]} & {finding for finding, _, _ in ALONE[other]}
        if not shared and triplets(one + joint + other) != ALONE[one] | ALONE[other]:
            wrong.append(one + joint + other)
    assert wrong == []


@pytest.mark.parametrize("joint", JOINTS)
def test_a_negation_moves_with_its_clause(joint):
    pairs = [("pneumothorax", "effusion"), ("consolidation", "edema"), ("nodule", "fracture")]
    for one, other in pairs:
        first = triplets(f"no {one} is seen{joint}there is {other}")
        second = triplets(f"there is {one}{joint}no {other} is seen")
        assert [existence for _, existence, _ in sorted(first ^ second)].count("absent") == 2
        assert {finding for finding, _, _ in first} == {finding for finding, _, _ in second}


@pytest.mark.parametrize("clause", CLAUSES)
def test_case_and_space_change_nothing(clause):
    assert triplets(clause.upper()) == triplets(f"  {clause.replace(' ', '  ')} ") == ALONE[clause]
