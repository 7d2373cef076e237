"""COVIDx (Wang, Lin and Wong, Scientific Reports 2020): COVID-19, other pneumonia or neither.

Text files such as train_COVIDx9A.txt, without a header: `patient_id filename class source`, parted by blanks.
A file name may hold blanks too. Classes are normal, pneumonia and COVID-19, or positive and negative in later
versions. Images lie in train/ and test/. A file is one part of the split; its name begins with the part.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from medground import limits
from medground.datasets import drawn_splits
from medground.datasets.drawn_splits import PARTS, Drawn
from medground.datasets.sources import Source, TakeBad, name_of, opened, refuse, sift
from medground.errors import BadRecord, MedgroundError
from medground.records import Label, Labels

THREE, TWO = ("normal", "pneumonia", "COVID-19"), ("negative", "positive")


@dataclass(frozen=True, slots=True)
class _Line:
    raw: bytes
    place: str


def read(
    source: Source, take: TakeBad = refuse, part: str | None = None, val_share: float = 0.1, seed: int = 0
) -> Iterator[Label]:
    """Yield the labels of each image: 1 for its class, 0 for the others.

    part: the part of the split that the file is (None: by its name). A share of the patients of a training
    file validates.
    """
    part, inside = part_of(source, part), drawn_splits.validation_of(val_share, seed)
    name = name_of(source)
    with opened(source) as stream:
        numbered = enumerate(limits.lines(stream, name), start=1)
        found = (_Line(line, f"{name}:{number}: ") for number, line in numbered if not line.isspace())
        yield from sift(found, lambda line: _label(line, part, inside), take)


def part_of(source: Source, part: str | None, names: tuple[str, ...] = PARTS) -> str:
    """Return the part, or the one of `names` that the file's name begins with."""
    stem = PurePath(name_of(source)).name.lower()
    found = part or next((each for each in names if stem.startswith(each)), None)
    if found is None:
        raise MedgroundError(f"{name_of(source)}: give --part, its name does not begin with {names[0]}")
    return found


def _label(line: _Line, part: str, inside: Drawn) -> Label:
    try:
        words = line.raw.decode().split()
        name = line.raw.decode().strip().split(maxsplit=1)[1].rsplit(maxsplit=2)[0]
    except UnicodeDecodeError:
        raise BadRecord("not UTF-8; convert it with iconv") from None
    except IndexError:
        words, name = [], ""
    if len(words) < 4:
        raise BadRecord("expected patient, file name, class and source, parted by blanks")
    patient, known = words[0], TWO if words[-2] in TWO else THREE
    if words[-2] not in known:
        raise BadRecord("not one of the classes of COVIDx", "class")
    labels: Labels = {each: 1 if each == words[-2] else 0 for each in THREE}
    if known is TWO:
        labels = {"COVID-19": 1 if words[-2] == "positive" else 0}
    return Label(
        image_id=name.rpartition(".")[0] or name,
        subject_id=patient,
        path=f"{part}/{name}",
        labels=labels,
        split=inside.of(patient) if part == "train" else part,
        split_by=f"COVIDx list; of its training part {inside.name}",
        extra={"source": words[-1]},
    )
