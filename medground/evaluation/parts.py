"""The cases that some protocols score, with their groups and patients.

Protocols of the same cases share them.

Letters: N cases.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medground.evaluation import baseline
from medground.evaluation.cases import Case, Cases
from medground.evaluation.stats import groups, scoring
from medground.evaluation.stats.groups import Groups
from medground.evaluation.stats.scoring import Figures, Measured
from medground.records import Box, Phrase, ScoredBox


@dataclass(frozen=True, slots=True)
class Part:
    """Cases of a model and of another one, with (N,) owners: the number of each case's patient.

    clusters: number of patients of the whole test set, some of which may have no case here.
    """

    own: Cases
    other: Cases | None
    groups: Groups
    owners: NDArray[np.int64]
    clusters: int
    baselines: dict[tuple[bytes, bool], Cases] = field(default_factory=dict)

    @classmethod
    def of(cls, own: Sequence[Case], other: Sequence[Case] | None, taken: bytes) -> "Part":
        """Return the part of these cases whose byte in `taken` is 1."""
        owners = scoring.clusters([case.phrase for case in own])
        mine = Cases(list(itertools.compress(own, taken)))
        theirs = None if other is None else Cases(list(itertools.compress(other, taken)))
        grouped = groups.of_phrases([case.phrase for case in mine])
        kept = np.frombuffer(taken, dtype=bool)
        return cls(mine, theirs, grouped, owners[kept], int(owners.max(initial=-1)) + 1)

    def measured(
        self,
        name: str,
        figures: Callable[[Cases], Figures],
        free: Cases | None = None,
        placed: Cases | None = None,
    ) -> Measured:
        """Return the figures of the model, of the two baselines' cases, and of the other model."""
        return Measured(
            protocol=name,
            groups=self.groups,
            owners=self.owners,
            counts=self.groups.counts,
            own=figures(self.own),
            prior=None if free is None else figures(free),
            anatomy=None if placed is None else figures(placed),
            other=None if self.other is None else figures(self.other),
            clusters=self.clusters,
        )

    def baseline(
        self,
        train: Sequence[Phrase] | None,
        scores: Callable[[Phrase], bool],
        lungs: Mapping[str, Box] | None = None,
    ) -> Cases | None:
        """Return the baseline's cases, fitted on the training phrases that `scores` accepts.

        With `lungs`, boxes are relative to the box around both lungs, see `baseline.Placed`.
        """
        if train is None or not len(self.own):
            return None
        used = bytes(map(scores, train))
        key = used, lungs is not None
        if key not in self.baselines:
            kept = list(itertools.compress(train, used))
            fitted = baseline.fit_phrases(kept) if lungs is None else baseline.fit_placed(kept, lungs)
            found = [
                Case(c.phrase, [ScoredBox(box=fitted.box_of(c.phrase), score=1.0)], 1.0) for c in self.own
            ]
            self.baselines[key] = Cases(found)
        return self.baselines[key]
