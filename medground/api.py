"""The functions `medground.detect` and `medground.align`: stages that take and return records."""

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from medground import locations, pairing, shipped
from medground.errors import MedgroundError
from medground.records import Anatomy, Existence, Image, Pair, Sentence

Images = str | Path | Image | Iterable[str | Path | Image]


def detect(
    images: Images,
    model: str | Path = "example",
    *,
    folder: str | Path = ".",
    device: str = "auto",
    min_score: float = 0.3,
    batch_size: int = 8,
    any_view: bool = False,
) -> list[Anatomy]:
    """Return the named regions of chest X-rays, one record per image, as `medground detect-anatomy` does.

    images: path of an image or of a folder with images, several of them, or `Image` records.
    model: folder of `train-detector` or transformers, or "example", the one included in medground.
    folder: the folder that paths of `Image` records start from.
    device: "cpu", "cuda" or "auto".
    min_score: minimum score of a region.
    batch_size: images per batch.
    any_view: also return regions of images that are probably no frontal chest X-ray.

    Otherwise such an image gets no regions and the view "other".
    Raises MedgroundError for an unreadable image.
    """
    from medground import devices
    from medground.anatomy import detect as detection
    from medground.anatomy import detector as detectors
    from medground.models import view_check

    weights = locations.detector(model)
    if weights == shipped.DETECTOR:
        shipped.warn()
    processor = devices.resolve(device)
    check = None if any_view else view_check.load()
    with closing(detectors.load(weights, processor)) as found:
        records = image_records(images, Path(folder))
        how = (_refuse, batch_size, min_score, check)
        return list(detection.detect_regions(records, Path(folder), found, *how))


def image_records(images: Images, folder: Path) -> list[Image]:
    """Return a record for each image; raises MedgroundError if two images have the same image_id."""
    from medground.anatomy import listing
    from medground.jsonl import BadLines

    several = [images] if isinstance(images, str | Path | Image) else list(images)
    records: list[Image] = []
    for each in several:
        if isinstance(each, Image):
            records.append(each)
        elif not Path(each).exists():
            raise MedgroundError(f"no such file or folder: {each}")
        else:
            records += listing.open_list(str(each), folder, BadLines())
    return list(listing.distinct(records))


def _refuse(record: Image, problem: MedgroundError) -> None:
    raise problem


def align(
    sentences: Iterable[Sentence],
    anatomies: Iterable[Anatomy],
    *,
    existence: Iterable[Existence] = ("present",),
    min_score: float = 0.5,
    multi_region: str = "merge",
    join: bool = True,
) -> list[Pair]:
    """Return pairs of a sentence and the regions it refers to, as `medground align` does.

    sentences: of `parse`, each study's sentences together.
    anatomies: of `detect`, with the `study_id` of the sentences.
    existence: pair findings of these existences ("present", "absent", "uncertain").
    min_score: minimum score of region boxes.
    multi_region: for sentences with several regions, "merge" gives one enclosing box, "split" one pair each.
    join: join a study's sentences about one region into one pair.
    """
    if multi_region not in ("merge", "split"):
        raise MedgroundError(f'multi_region {multi_region!r}: expected "merge" or "split"')
    rules = pairing.Rules(frozenset(existence), min_score, split=multi_region == "split", join=join)
    return list(pairing.pair_sentences(sentences, anatomies, rules))
