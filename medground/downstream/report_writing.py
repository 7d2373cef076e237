"""Reports from images, with the writer that pre-training with gk-mvlp or writer left in a model folder.

A report is decoded from the visual tokens of one image. gk-mvlp's findings attend to the boxes of the named
regions, as in its training; without boxes they attend to a learned "nowhere" token. Its writer gets the
findings whose probability reaches their threshold: .5, or those of `finding_thresholds`.

Letters: B images, P visual tokens, D width, V vocabulary, F findings.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medground import model_dir
from medground.anatomy.detect import batches
from medground.data import examples, report_targets
from medground.data.examples import Example
from medground.downstream import decoded_text, decoding
from medground.downstream.decoding import Decoding
from medground.errors import MedgroundError
from medground.models import grounder, letterboxed
from medground.models.grounder import Grounder
from medground.models.letterboxed import LetterboxedImage
from medground.objectives import saved_heads
from medground.objectives.objective import Encoded
from medground.objectives.report_batch import LONGEST, ReportBatch
from medground.objectives.writer import WriterSteps, Writes
from medground.records import Anatomy, Image, Report

log = logging.getLogger(__name__)
MOST_TOKENS = LONGEST  # of a report, with the end token
Reject = Callable[[Image, MedgroundError], None]


@dataclass(frozen=True)
class ReportModel:
    """A model with an objective that writes; `leakage` marks its reports if its training leaked."""

    model: Grounder
    objective: Writes
    leakage: bool = False

    @property
    def name(self) -> str:
        """The hash of the weights; `model` in the records."""
        return self.model.name

    def decoding(self, most: int = MOST_TOKENS, beams: int = 1, length_penalty: float = 1.0) -> Decoding:
        """Return the settings of a search for this model's tokens; a report ends with its start token."""
        tokenizer = self.model.tokenizer
        start = self.model.tokenize([""])[0][0, 0].item()
        never = {tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.mask_token_id} - {None, start}
        return Decoding(
            start=int(start),
            end=int(start),
            most=min(most, LONGEST),
            beams=beams,
            length_penalty=length_penalty,
            never=frozenset(never),
        )

    @torch.inference_mode()
    def texts(
        self, pictures: Sequence[LetterboxedImage], found: Sequence[Anatomy | None], how: Decoding
    ) -> list[tuple[str, bool]]:
        """Return the report of each image and whether it ended; `found` has their regions."""
        memory, hidden = self._visual_tokens(pictures, found)
        step = WriterSteps(self.objective.writer, memory, hidden)
        written = decoding.decode(step, len(pictures), how, self.model.device)
        return [(decoded_text.report_of(self.model.tokenizer, ids), ended) for ids, ended in written]

    @cached_property
    def _knowledge(self) -> tuple[Tensor, Tensor]:
        """The tokens of the objective's own texts and their mask: the same for every image."""
        ids, mask = (
            each.to(self.model.device) for each in self.model.tokenize(list(self.objective.texts) or [""])
        )
        network = self.model.network
        return network.encode_texts(ids, mask)[..., : network.width], mask

    def _visual_tokens(
        self, pictures: Sequence[LetterboxedImage], found: Sequence[Anatomy | None]
    ) -> tuple[Tensor, Tensor]:
        """Return (B, P, D) visual tokens and (B, P), True if ignored."""
        return self.objective.visual_tokens(*self.encoded(pictures, found))

    @torch.inference_mode()
    def chances(self, pictures: Sequence[LetterboxedImage], found: Sequence[Anatomy | None]) -> Tensor:
        """Return (B, F) probabilities of gk-mvlp's findings."""
        objective: Any = self.objective
        encoded, reports = self.encoded(pictures, found)
        result: Tensor = objective.chances(objective.ground(encoded, reports))
        return result

    def encoded(
        self, pictures: Sequence[LetterboxedImage], found: Sequence[Anatomy | None]
    ) -> tuple[Encoded, ReportBatch]:
        """Return the encoded images, and their regions as reports without sentences."""
        network, device = self.model.network, self.model.device
        texts = list(self.objective.texts)
        rows = {text: n for n, text in enumerate(texts)}
        tokens, mask = self._knowledge
        planes = torch.stack([each.picture() for each in pictures]).to(device)
        images = network.encode_images(planes[:, :1], planes[:, 1:])
        encoded = Encoded(images, tokens, mask, None)
        known, boxes = [_example(each) for each in found], [each.letterbox for each in pictures]
        reports = report_targets.collate(known, boxes, rows, texts).to(device)
        return encoded, replace(reports, has_report=torch.ones_like(reports.has_report))


def _example(anatomy: Anatomy | None) -> Example:
    """Return the regions of an image as an example without a report."""
    if anatomy is None:
        return Example("", "", 1, 1, None)
    known: dict[str, Example] = {}
    examples.from_anatomy([anatomy], known, synonyms=False)
    return known[anatomy.image_id]


def load(folder: Path, device: str = "cpu") -> ReportModel:
    """Return the model of a folder with its writer; raise MedgroundError if it has none, or several."""
    model = grounder.load(folder, device)
    writing = {
        name: each for name, each in saved_heads.load(folder, model).items() if isinstance(each, Writes)
    }
    if len(writing) != 1:
        found = ", ".join(saved_heads.names_of(folder))
        raise MedgroundError(
            f"{folder / model_dir.HEADS}: expected the heads of one objective that writes reports, such as "
            f"gk-mvlp or writer; it has {found}"
        )
    record = model_dir.ModelDir(folder).training_record() or {}
    [objective] = writing.values()
    return ReportModel(model, objective, leakage=bool(record.get("leakage")))


def write(
    images: Iterable[Image],
    model: ReportModel,
    folder: Path,
    anatomy: Mapping[str, Anatomy],
    how: Decoding,
    reject: Reject,
    batch_size: int = 8,
) -> Iterator[Report | None]:
    """Yield the report of each image, in order; None for an image that was passed to `reject`.

    anatomy: regions by image_id. The study of an image without study_id has its image_id.
    """
    cut = total = without = 0
    for some in batches(images, batch_size):
        pictures = [_read(each, folder, anatomy.get(each.image_id), model, reject) for each in some]
        kept = [(image, picture) for image, picture in zip(some, pictures, strict=True) if picture]
        found = [anatomy.get(image.image_id) for image, _ in kept]
        texts = iter(model.texts([picture for _, picture in kept], found, how) if kept else ())
        for image, picture in zip(some, pictures, strict=True):
            text, ended = next(texts) if picture else ("", True)
            yield _report(image, text, model) if picture else None
            cut, total = cut + (not ended), total + 1
        without += sum(each is None for each in found)
    if cut:
        log.warning("%d of %d reports were cut at %d tokens; see --max-tokens", cut, total, how.most)
    if anatomy and without:
        log.warning("--anatomy has no line for %d images: their reports use no region", without)


def _read(
    image: Image, folder: Path, anatomy: Anatomy | None, model: ReportModel, reject: Reject
) -> LetterboxedImage | None:
    """Return the image, with boxes in pixels of its anatomy; None if it was rejected."""
    try:
        found = letterboxed.read(folder / image.path, model.model.config.image_size)
        if anatomy is None:
            return found
        whose = "its line of --anatomy"
        return found.sized(anatomy.width, anatomy.height, image.path, whose)
    except MedgroundError as error:
        reject(image, error)
        return None


def _report(image: Image, text: str, model: ReportModel) -> Report:
    known: dict[str, Any] = {"image_id": image.image_id, "path": image.path, "model": model.name}
    known |= {"view": image.view} if image.view else {}
    known |= {"leakage": True} if model.leakage else {}
    return Report(
        study_id=image.study_id or image.image_id,
        subject_id=image.subject_id,
        text=text,
        extra={**image.extra, **known},
    )
