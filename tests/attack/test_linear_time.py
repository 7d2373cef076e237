"""Texts that repeat without end are read in linear time: no regular expression matches in two ways."""

import time

import pytest

from medground.reports import sections

N = 20_000
HEADERS = [
    "FINDINGS" + " " * N,
    "FINDINGS (" + " " * N,
    "FINDINGS (a)" + " " * N,
    "CHEST " + "1 " * N,
    "CHEST " + "2 views " * N,
    "CHEST " + "port. " * N,
    "CHEST" + ". , ( " * N,
    "the " * N,
    "views of the " * N,
    "\n" + " " * N,
    "\n" * N,
    ". " * N,
    "*" * N,
    "FINDINGS\n" * N,
    "FINDINGS and " * N,
    "Findings: " * N,
    "chest radiographs " * N,
]


@pytest.mark.parametrize("text", HEADERS, ids=lambda each: each[:16])
def test_headers_are_found_in_linear_time(text):
    start = time.process_time()
    sections.split_sections(f"{text}x\n")
    assert time.process_time() - start < 3  # else minutes, or without end


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
