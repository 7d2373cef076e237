"""The protocol `reports`: written reports against the true ones of the same studies.

An item is one study of the truth. Figures over texts are given of cleaned words and, as raw_X, of raw words
(`report_words`).
bleu1 ... bleu4   corpus BLEU        rouge_l   mean ROUGE-L, beta 1.2; both as in pycocoevalcap
An item of the figures over findings is one finding of one study: those that our parser finds as present in
one of the texts. It is no CheXbert F1.
parser-precision, parser-recall, parser-f1   of present findings against all others
Groups: `all` (micro), `macro` (mean over the findings that occur in the truth), `finding:NAME`.

shuffled_X is the figure of another patient's true report, prior_X that of the commonest training report.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medground import registry
from medground.errors import BadRecord, MedgroundError
from medground.evaluation import report_words, sources
from medground.evaluation.image_facts import agreeing
from medground.evaluation.prepared import Kind, Prepared
from medground.evaluation.report.pictures import Galleries, no_galleries
from medground.evaluation.stats import groups, scoring, texts
from medground.evaluation.stats.bootstrap import Array
from medground.evaluation.stats.figures import Ratio, mean_over
from medground.evaluation.stats.groups import Groups
from medground.evaluation.stats.scoring import Figures, Measured
from medground.records import Report

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Study:
    """A true report, as a record of a patient's image for checks of leakage."""

    report: Report

    @property
    def image_id(self) -> str:
        """The image, or the study if the report names no image."""
        return str(self.report.extra.get("image_id") or self.report.study_id)

    @property
    def subject_id(self) -> str | None:
        """The patient, if known."""
        return self.report.subject_id


@dataclass(kw_only=True)
class WrittenData(Prepared):
    """The true reports, and those written by a model and by another one, in the same order."""

    scored: Sequence[Study]
    train: Sequence[Study] | None = None
    own: Sequence[Report]
    other: Sequence[Report] | None = None


def prepare(
    predictions: Iterable[Report],
    truth: Iterable[Report],
    train: Iterable[Report] | None,
    compare: Iterable[Report] | None,
    split: str | None,
) -> WrittenData:
    """Return the true reports of the split with those written for them.

    Raises MedgroundError for a study without a written report.
    """
    known = sources.checked(truth, "truth", check_truth())
    scored = sources.of_split(known, split, sources.name_of(truth, "truth"), "report")
    own = _written(predictions, "predictions", known, scored)
    other = None if compare is None else _written(compare, "compare", known, scored)
    return WrittenData(
        scored=[*map(Study, scored)],
        train=None if train is None else _training(train, split),
        elsewhere=[*map(Study, sources.outside(known, split))],
        own=own,
        other=other,
        predictions=own,
        compared=other or [],
        rules=sources.rules(scored, split),
    )


def _training(train: Iterable[Report], split: str | None) -> list[Study]:
    """Return the training reports: with a split of the truth, those of the split "train"."""
    known = sources.checked(train, "train", check_truth())
    kept = [each for each in known if split is None or each.extra.get("split") == "train"]
    if known and not kept:
        raise MedgroundError(f"{sources.name_of(train, 'train')}: no report is of the split train")
    return [*map(Study, kept)]


def _written(
    records: Iterable[Report], default: str, known: Sequence[Report], scored: Sequence[Report]
) -> list[Report]:
    checked = sources.checked(records, default, check_prediction(known))
    found = {each.study_id: each for each in checked}
    if missing := sum(each.study_id not in found for each in scored):
        source = sources.name_of(records, default)
        raise MedgroundError(f"{source}: no report for {missing} of {len(scored)} scored studies")
    return [found[each.study_id] for each in scored]


def check_truth() -> Callable[[Report], None]:
    """Return a check that raises BadRecord for a second report of a study, and for one without text."""
    seen: set[str] = set()

    def check(report: Report) -> None:
        _once(report, seen)
        if not report_words.text_of(report):
            raise BadRecord("no findings and no impression", "text")

    return agreeing(check)


def check_prediction(truth: Sequence[Report]) -> Callable[[Report], None]:
    """Return a check that raises BadRecord for a study that the truth lacks, and for its second report."""
    known, seen = {each.study_id for each in truth}, set[str]()

    def check(report: Report) -> None:
        if report.study_id not in known:
            raise BadRecord("the truth has no such study", "study_id")
        _once(report, seen)

    return agreeing(check, truth)


def _once(report: Report, seen: set[str]) -> None:
    if report.study_id in seen:
        raise BadRecord("the second report of this study; keep the report of one image", "study_id")
    seen.add(report.study_id)


@dataclass(frozen=True, slots=True)
class ReportProtocol:
    """The protocol: overlap of texts, and of the findings in them."""

    name: str = "reports"
    takes: Kind = registry.PROTOCOLS["reports"].reads

    def measure(self, data: WrittenData) -> Sequence[Measured]:
        """Return the figures over texts, and over findings."""
        true = [each.report for each in data.scored]
        written: dict[str, Sequence[Report] | None] = {
            "own": data.own,
            "other": data.other,
            "prior": _commonest(data.train, len(true)),
            "shuffled": _shuffled(data.scored),
        }
        given = {name: each for name, each in written.items() if each is not None}
        return [self._of_texts(data, true, given), self._of_findings(data, true, given)]

    def _of_texts(
        self, data: WrittenData, true: Sequence[Report], written: Mapping[str, Sequence[Report]]
    ) -> Measured:
        parted = groups.build([], len(true), "-")
        figures: dict[str, Any] = {name: _text_figures(each, true) for name, each in written.items()}
        return Measured(self.name, parted, scoring.clusters(data.scored), parted.counts, **figures)

    def _of_findings(
        self, data: WrittenData, true: Sequence[Report], written: Mapping[str, Sequence[Report]]
    ) -> Measured:
        findings_of = report_words.Findings()
        there = findings_of(true)
        found = {name: findings_of(each) for name, each in written.items()}
        names = sorted(frozenset().union(*there, *(each for sets in found.values() for each in sets)))
        wanted = _table(there, names)
        parted = _groups(names, wanted)
        figures: dict[str, Any] = {
            name: _finding_figures(_table(each, names).ravel(), wanted.ravel())
            for name, each in found.items()
        }
        owners = scoring.clusters(data.scored)
        return Measured(
            self.name,
            parted,
            np.repeat(owners, len(names)),
            parted.counts,
            clusters=int(owners.max(initial=-1)) + 1,
            keeps_empty=False,
            **figures,
        )

    def galleries(self, data: WrittenData) -> Galleries:
        """Return no pictures."""
        return no_galleries


REPORTS = ReportProtocol()


def _commonest(train: Sequence[Study] | None, count: int) -> list[Report] | None:
    """Return the commonest training report `count` times; the first of equally common ones."""
    if not train:
        return None
    words = [" ".join(report_words.cleaned(report_words.text_of(each.report))) for each in train]
    place = words.index(Counter(words).most_common(1)[0][0])
    return [train[place].report] * count


def _shuffled(scored: Sequence[Study]) -> list[Report] | None:
    """Return another patient's report for each study, always the same; None if one has over half of them.

    Studies are sorted by a random order of the patients, and shifted by the most studies of one patient.
    """
    owners = scoring.clusters(scored)
    sizes = np.bincount(owners)
    if not len(owners) or 2 * sizes.max() > len(owners):
        log.warning("one patient has more than half of the reports: there is no baseline of other patients")
        return None
    order = np.argsort(np.random.default_rng(0).permutation(len(sizes))[owners], kind="stable")
    partner = np.empty_like(order)
    partner[order] = np.roll(order, -sizes.max())
    return [scored[place].report for place in partner.tolist()]


def _text_figures(written: Sequence[Report], true: Sequence[Report]) -> Figures:
    """Return BLEU and ROUGE-L of cleaned and of raw words."""
    found: dict[str, scoring.Bindable] = {}
    pairs = [(report_words.text_of(a), report_words.text_of(b)) for a, b in zip(written, true, strict=True)]
    for prefix, words_of in (("", report_words.cleaned), ("raw_", report_words.raw)):
        words = [(words_of(a), words_of(b)) for a, b in pairs]
        counts = texts.NGrams.of([a for a, _ in words], [b for _, b in words])
        for order in range(1, texts.LONGEST + 1):
            found[f"{prefix}bleu{order}"] = texts.Bleu(counts, order)
        found[f"{prefix}rouge_l"] = mean_over([texts.rouge_l(*each) for each in words])
    return found


def _table(found: Sequence[frozenset[str]], names: Sequence[str]) -> NDArray[np.bool_]:
    """Return (N, F), True for the findings of each report."""
    table = [[name in each for name in names] for each in found]
    return np.array(table, dtype=bool).reshape(len(found), len(names))


def _finding_figures(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> Figures:
    """Return precision, recall and F1 of (N F,) items; without a value if the denominator is 0."""
    yes, wanted = found.astype(float), true.astype(float)
    parts: dict[str, tuple[Array, Array]] = {
        "parser-precision": (yes * wanted, yes),
        "parser-recall": (yes * wanted, wanted),
        "parser-f1": (2 * yes * wanted, yes + wanted),
    }
    return {name: Ratio([part]) for name, part in parts.items()}


def _groups(names: Sequence[str], wanted: NDArray[np.bool_]) -> Groups:
    """Return a group for each finding of the truth, over the items of (N, F) studies and findings."""
    columns = np.tile(np.arange(len(names)), len(wanted))
    labels = [
        (f"finding:{name}", (columns == k).tolist()) for k, name in enumerate(names) if wanted[:, k].any()
    ]
    return groups.build(labels, len(columns), "finding:")
