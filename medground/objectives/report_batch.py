"""The reports of a batch as tensors, for objectives that use them.

Letters: B images, U distinct texts of the batch, T tokens, S sentences, R region-sentence pairs, K boxes of
named regions, F findings, L tokens of a report, D width.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from medground.objectives.distributed import gathered


@dataclass(frozen=True)
class ReportBatch:
    """The reports of B images; texts are row numbers of the batch's U texts.

    sentences, report_of: (S,) the text and the image of each sentence, sorted by image, in report order.
    pair_texts, pair_images: (R,), pair_boxes: (R, 4), the sentences about regions, with their box.
    regions, region_images: (K,), region_boxes: (K, 4), indices into `anatomy.regions.NAMES`.
    tags: (B, 40), findings: (B, F): 1 present, 0 absent or not mentioned, -1 uncertain.
    has_report: (B,), False for an image without a report. always: (F,) texts of the objectives.
    keys: (B,) equal numbers for reports with the same sentences; None if all differ.
    Boxes are normalized [cx, cy, w, h].
    """

    sentences: Tensor
    report_of: Tensor
    pair_texts: Tensor
    pair_images: Tensor
    pair_boxes: Tensor
    regions: Tensor
    region_images: Tensor
    region_boxes: Tensor
    tags: Tensor
    findings: Tensor
    has_report: Tensor
    always: Tensor
    keys: Tensor | None = None

    def to(self, device: torch.device) -> "ReportBatch":
        """Return a copy on a device."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        moved: dict[str, Any] = {n: None if each is None else each.to(device) for n, each in given.items()}
        return ReportBatch(**moved)

    def same(self) -> Tensor | None:
        """Return (N, N), True for equal reports among those of all processes; None if all differ."""
        if self.keys is None:
            return None
        keys = gathered(self.keys[self.has_report])
        return keys[:, None] == keys

    def boxes(self) -> tuple[Tensor, Tensor]:
        """Return (R + K, 4) all boxes, and (R + K,) the image of each."""
        images = torch.cat([self.pair_images, self.region_images])
        return torch.cat([self.pair_boxes, self.region_boxes]), images

    def on_views(self, boxes: Tensor, there: Tensor) -> "ReportBatch":
        """Return the reports for augmented views of the images.

        boxes: (R + K, 4) the places of `boxes()` on the views. there: (R + K,), False for boxes outside the
        view, which are left out. An image that has lost all its boxes has no report any more.
        """
        count, images = len(self.pair_boxes), self.boxes()[1]
        had, has = (
            torch.bincount(each, minlength=len(self.has_report)) > 0 for each in (images, images[there])
        )
        pair, region = there[:count], there[count:]
        return replace(
            self,
            has_report=self.has_report & (has | ~had),
            pair_texts=self.pair_texts[pair],
            pair_images=self.pair_images[pair],
            pair_boxes=boxes[:count][pair],
            regions=self.regions[region],
            region_images=self.region_images[region],
            region_boxes=boxes[count:][region],
        )


def words_of(tokens: Tensor, mask: Tensor, rows: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
    """Return (n, D) the tokens of these text rows, concatenated, and (n,) the owner of each.

    tokens: (U, T, D). mask: (U, T). rows, owners: (S,).
    """
    kept = mask[rows]
    return tokens[rows][kept], owners[:, None].expand_as(kept)[kept]


def means(values: Tensor, owners: Tensor, count: int) -> Tensor:
    """Return (count, D) the mean of the (n, D) rows of each owner; 0 for one without rows."""
    sums = values.new_zeros(count, values.shape[1]).index_add(0, owners, values)
    sizes = torch.bincount(owners, minlength=count)[:, None].clamp(min=1)
    return sums / sizes


def lines(mask: Tensor, reports: ReportBatch, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, places and valid, each (B, L): indices of each report's tokens among (U, T) tokens.

    L is the maximum report length, at most `most`. The first token of a text is a start token: only that of
    the first sentence is kept. Invalid entries are row 0, place 0.
    """
    kept = mask[reports.sentences].clone()
    opens = torch.ones_like(reports.report_of, dtype=torch.bool)
    opens[1:] = reports.report_of[1:] != reports.report_of[:-1]
    kept[:, 0] &= opens
    sentence, place = kept.nonzero(as_tuple=True)
    owner = reports.report_of[sentence]
    lengths = torch.bincount(owner, minlength=len(reports.has_report))
    at = torch.arange(len(owner), device=owner.device) - (lengths.cumsum(0) - lengths)[owner]
    within = at < most
    shape = (len(reports.has_report), int(lengths.max().clamp(max=most)))
    rows, places = (torch.zeros(shape, dtype=torch.long, device=owner.device) for _ in range(2))
    rows[owner[within], at[within]] = reports.sentences[sentence[within]]
    places[owner[within], at[within]] = place[within]
    valid = torch.arange(shape[1], device=owner.device) < lengths[:, None]
    return rows, places, valid
