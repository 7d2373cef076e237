"""Sentences by kind with their findings, from tests/reports/kinds; existence.txt explains the format."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from medground.records import Triplet

FOLDER = Path(__file__).parents[1] / "reports" / "kinds"
NAMES = {
    "effusion": "pleural effusion",
    "edema": "pulmonary edema/hazy opacity",
    "cardiomegaly": "enlarged cardiac silhouette",
    "chf": "fluid overload/heart failure",
    "nodule": "mass/nodule (not otherwise specified)",
    "scar": "pleural/parenchymal scarring",
}
EXISTENCES = {"+": "present", "-": "absent", "?": "uncertain"}
SEVERITIES = ("mild", "moderate", "severe", "no-severity")
CHANGES = ("improved", "worsened", "no change", "no-change")


class Wanted(NamedTuple):
    """A finding with its existence; `place`, `severity` and `change` are not checked if they are None."""

    finding: str
    existence: str
    place: str | None
    severity: str | None
    change: str | None
    needed: bool

    def fits(self, triplet: Triplet) -> bool:
        return (
            (triplet.finding, triplet.existence) == (self.finding, self.existence)
            and (self.place is None or (triplet.region or "none").startswith(self.place))
            and (self.severity is None or (triplet.severity or "no-severity") == self.severity)
            and (self.change is None or (triplet.change or "no-change") == self.change)
        )


def read(name: str) -> Iterator[tuple[str, str, list[Wanted]]]:
    """Yield (kind, text, findings) of each line of a file."""
    kind = ""
    lines = (FOLDER / name).read_text("utf-8").splitlines()
    for line in lines:
        if line.startswith("## ") and "=>" not in line:
            kind = line[3:]
        elif "=>" in line and not line.startswith("# text"):
            text, _, wanted = line.rpartition(" => ")
            text = text.replace("\\n", "\n").replace("\\xad", "\xad")
            yield kind, text, [] if wanted == "nothing" else [_wanted(each) for each in wanted.split("; ")]


def _wanted(words: str) -> Wanted:
    needed = not words.startswith("[")
    sign, _, rest = words.strip("[]").partition(" ")
    end: dict[str, str | None] = {}
    for key, choices in (("change", CHANGES), ("severity", SEVERITIES)):
        found = next((each for each in choices if rest.endswith(" " + each)), None)
        rest = rest.removesuffix(f" {found}")
        end[key] = found
    name, _, place = rest.partition(" @ ")
    return Wanted(NAMES.get(name, name), EXISTENCES[sign], place or None, needed=needed, **end)


def difference(triplets: list[Triplet], wanted: list[Wanted]) -> list[str]:
    """Return what is missing and what is too much; empty if the triplets are right."""
    missing = [each for each in wanted if each.needed and not any(each.fits(t) for t in triplets)]
    extra = [each for each in triplets if not any(one.fits(each) for one in wanted)]
    return [f"missing {each}" for each in missing] + [
        f"too much: {each.finding}, {each.existence}, {each.region}, {each.severity}, {each.change}"
        for each in extra
    ]
