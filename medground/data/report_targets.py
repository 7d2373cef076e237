"""Report text and labels as batch tensors. Letters as in `objectives.report_batch`."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medground import registry
from medground.anatomy import regions
from medground.boxes import Letterbox
from medground.data.examples import Example, Query
from medground.data.packed import where
from medground.errors import MedgroundError
from medground.objectives import knowledge, tags
from medground.objectives.report_batch import ReportBatch
from medground.records import Box

NUMBER_OF = {name: number for number, name in enumerate(regions.NAMES)}


@dataclass(frozen=True)
class Needs:
    """The contents of batches that the objectives of a run need.

    fuses: phrases with boxes. always: texts in addition to those of the reports, None if no report is used.
    """

    fuses: bool
    always: tuple[str, ...] | None

    @classmethod
    def of(cls, names: Iterable[str]) -> "Needs":
        """Return the needs of the objectives with these names."""
        entries = [registry.OBJECTIVES[name] for name in names]
        texts = tuple(dict.fromkeys(text for entry in entries for text in entry.load().texts))
        reads_reports = any(entry.reads_reports for entry in entries)
        return cls(any(entry.fuses for entry in entries), texts if reads_reports else None)

    def met_by(self, examples: Sequence[Example]) -> Sequence[Example]:
        """Return the examples that can be trained on; raise MedgroundError if there are none."""
        kept = examples if self.fuses else where(examples, lambda each: bool(each.report))
        if not kept:
            raise MedgroundError(
                "nothing to read: no image has a report; give --report-sentences, or pairs with text"
            )
        return kept


def texts_of(examples: Sequence[Example]) -> list[str]:
    """Return every text of the reports of these images in a batch."""
    return [text for each in examples for text in (*each.report, *(q.texts[0] for q in each.pairs))]


def collate(
    examples: Sequence[Example],
    letterboxes: Sequence[Letterbox],
    rows: Mapping[str, int],
    always: Sequence[str],
) -> ReportBatch:
    """Return the reports of these images; `rows` has the row of each text, also of those in `always`."""
    pairs = _of_each(examples, lambda each: [q for q in each.pairs if q.boxes])
    areas = _of_each(examples, lambda each: [q for q in each.terms if q.texts[0] in NUMBER_OF])
    sentences = [(n, text) for n, each in enumerate(examples) for text in each.report]
    return ReportBatch(
        sentences=_long(rows[text] for _, text in sentences),
        report_of=_long(n for n, _ in sentences),
        pair_texts=_long(rows[query.texts[0]] for _, query in pairs),
        pair_images=_long(n for n, _ in pairs),
        pair_boxes=_boxes(pairs, letterboxes),
        regions=_long(NUMBER_OF[query.texts[0]] for _, query in areas),
        region_images=_long(n for n, _ in areas),
        region_boxes=_boxes(areas, letterboxes),
        tags=torch.tensor([tags.labels(tags.NAMES, each.tags) for each in examples]),
        findings=torch.tensor([tags.labels(knowledge.NAMES, each.findings) for each in examples]),
        has_report=torch.tensor([bool(each.report) for each in examples]),
        always=_long(rows[text] for text in always),
        keys=_long(_key(each.report) for each in examples),
    )


def _key(report: Sequence[str]) -> int:
    """Return a number that equal reports share in all processes."""
    return int.from_bytes(hashlib.sha256("\n".join(report).encode()).digest()[:7])


def _of_each(
    examples: Sequence[Example], queries: Callable[[Example], list[Query]]
) -> list[tuple[int, Query]]:
    return [(n, query) for n, each in enumerate(examples) for query in queries(each)]


def _long(numbers: object) -> Tensor:
    return torch.tensor(list(numbers), dtype=torch.long)  # type: ignore[call-overload]


def _boxes(placed: list[tuple[int, Query]], letterboxes: Sequence[Letterbox]) -> Tensor:
    """Return (n, 4) the first box of each query, normalized to its image."""
    normalized = [letterboxes[n].normalise(_row(query.boxes[0])) for n, query in placed]
    return torch.from_numpy(np.concatenate([*normalized, np.zeros((0, 4))])).float()


def _row(box: Box) -> NDArray[np.float64]:
    return np.array([box], dtype=np.float64)
