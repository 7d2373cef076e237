"""Texts that repeat without end are read in linear time: no regular expression matches in two ways."""

import time

import pytest

from medground.reports import sections

N = 15_000
HEADERS = [  # how a text begins, and what it repeats
    ("FINDINGS", " "),
    ("FINDINGS (", " "),
    ("FINDINGS (a)", " "),
    ("CHEST ", "1 "),
    ("CHEST ", "2 views "),
    ("CHEST ", "port. "),
    ("CHEST", ". , ( "),
    ("", "the "),
    ("", "views of the "),
    ("\n", " "),
    ("", "\n"),
    ("", ". "),
    ("", "*"),
    ("", "FINDINGS\n"),
    ("", "FINDINGS and "),
    ("", "Findings: "),
    ("", "chest radiographs "),
]


def seconds(text):
    start = time.process_time()
    sections.split_sections(f"{text}x\n")
    return time.process_time() - start


@pytest.mark.slow
@pytest.mark.parametrize(("begin", "repeated"), HEADERS)
def test_headers_are_found_in_linear_time(begin, repeated):
    short, long = (seconds(begin + repeated * number) for number in (N, 4 * N))
    assert long < 8 * short + 0.3  # in quadratic time 16 times as long


@pytest.mark.parametrize(
    "header",
    [
        "CHEST PORT.:",
        "CHEST (PA AND LATERAL):",
        "CHEST, 2 VIEWS PORT. 5 :",
        "FINDINGS (see note) :",
        "** FINDINGS:",
    ],
)
def test_headers_are_still_found(header):
    assert [each.name for each in sections.split_sections(f"{header} clear")] == ["findings"]
