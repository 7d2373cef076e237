"""The reports of a batch as tensors, for objectives that use them.

Letters: B images, U distinct texts of the batch, T tokens, S sentences, R region-sentence pairs, K boxes of
named regions, F findings, L tokens of a report, D width.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from medground.objectives.distributed import gathered

LONGEST = 160  # maximum report tokens


@dataclass(frozen=True)
class Indices:
    """The rows that objectives select from a `ReportBatch` of n images with a report.

    reported: (n,) the images with a report. spoken: (V,) the distinct texts of the pairs. spoken_of: (R,) the
    row of each pair's text among them. words, owners: (W,) the words of these texts, as indices into the
    flattened (U, T) tokens, and the row of the text of each. rows, places, valid: (n, L) the tokens of each
    report, as returned by `lines`. scored: (k,) as returned by the function `scored`. pair_sizes,
    region_sizes: number of pairs and of named regions of each image; None if they are not sorted by image.
    """

    reported: Tensor
    spoken: Tensor
    spoken_of: Tensor
    words: Tensor
    owners: Tensor
    rows: Tensor
    places: Tensor
    valid: Tensor
    scored: Tensor
    pair_sizes: tuple[int, ...] | None
    region_sizes: tuple[int, ...] | None


@dataclass(frozen=True)
class ReportBatch:
    """The reports of B images; texts are row numbers of the batch's U texts.

    sentences, report_of: (S,) the text and the image of each sentence, sorted by image, in report order.
    pair_texts, pair_images: (R,), pair_boxes: (R, 4), the sentences about regions, with their box.
    regions, region_images: (K,), region_boxes: (K, 4), indices into `anatomy.regions.NAMES`.
    tags: (B, 40), findings: (B, F): 1 present, 0 absent or not mentioned, -1 uncertain.
    has_report: (B,), False for an image without a report. always: (F,) texts of the objectives.
    keys: (B,) equal numbers for reports with the same sentences; None if all differ.
    indices: found on the CPU, before the batch is copied; to find them on a GPU, None, waits for it.
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
    indices: Indices | None = None

    def to(self, device: torch.device) -> "ReportBatch":
        """Return a copy on a device, without indices."""
        given = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "indices"}
        moved: dict[str, Any] = {n: None if each is None else each.to(device) for n, each in given.items()}
        return ReportBatch(**moved)

    def found(self, mask: Tensor) -> Indices:
        """Return the indices for the (U, T) mask of the texts: those of the batch, or new ones."""
        return find(self, mask) if self.indices is None else self.indices

    def same(self, reported: Tensor) -> Tensor | None:
        """Return (N, N), True for equal reports among those of all processes; None if all differ.

        reported: (n,) the images with a report.
        """
        if self.keys is None:
            return None
        keys = gathered(self.keys[reported])
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
            indices=None,
        )


def find(reports: ReportBatch, mask: Tensor) -> Indices:
    """Return the indices of a batch whose texts have this (U, T) mask."""
    reported = reports.has_report.nonzero()[:, 0]
    spoken, spoken_of = reports.pair_texts.unique(return_inverse=True)
    owners, place = mask[spoken].nonzero(as_tuple=True)
    rows, places, valid = (each[reported] for each in lines(mask, reports, LONGEST))
    return Indices(
        reported=reported,
        spoken=spoken,
        spoken_of=spoken_of,
        words=spoken[owners] * mask.shape[1] + place,
        owners=owners,
        rows=rows,
        places=places,
        valid=valid,
        scored=scored(valid, LONGEST),
        pair_sizes=sizes(reports.pair_images, len(reports.has_report)),
        region_sizes=sizes(reports.region_images, len(reports.has_report)),
    )


def sizes(images: Tensor, count: int) -> tuple[int, ...] | None:
    """Return the number of rows of each of `count` images; None if (n,) `images` is not sorted."""
    if (images[1:] < images[:-1]).any():
        return None
    return tuple(torch.bincount(images, minlength=count).tolist())


def scored(valid: Tensor, longest: int) -> Tensor:
    """Return (k,) the tokens that predict another one, as indices into the flattened (n, L) `valid`.

    The last token of a report predicts its end, unless the report has `longest` tokens: it was probably cut.
    """
    lengths = valid.sum(dim=1, keepdim=True)
    last = torch.arange(valid.shape[1], device=valid.device) == lengths - 1
    return (valid & ~(last & (lengths == longest))).flatten().nonzero()[:, 0]


def text_means(tokens: Tensor, mask: Tensor, rows: Tensor, owners: Tensor, count: int) -> Tensor:
    """Return (count, D) the mean of the tokens of each owner's text rows; 0 for one without rows.

    Equals `means` of `words_of`, but does not wait for a GPU.
    """
    totals = tokens.float().masked_fill(~mask[..., None], 0).sum(dim=1)[rows]
    return _ratios(totals, mask.sum(dim=1)[rows], owners, count).to(tokens.dtype)


def words_of(tokens: Tensor, mask: Tensor, rows: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
    """Return (n, D) the tokens of these text rows, concatenated, and (n,) the owner of each.

    tokens: (U, T, D). mask: (U, T). rows, owners: (S,).
    """
    kept = mask[rows]
    return tokens[rows][kept], owners[:, None].expand_as(kept)[kept]


def means(values: Tensor, owners: Tensor, count: int) -> Tensor:
    """Return (count, D) the mean of the (n, D) rows of each owner; 0 for one without rows."""
    return _ratios(values.float(), torch.ones_like(owners), owners, count).to(values.dtype)


def _ratios(totals: Tensor, numbers: Tensor, owners: Tensor, count: int) -> Tensor:
    """Return (count, D) the sum of each owner's (n, D) totals, divided by that of its (n,) numbers.

    The totals are in single precision: in bfloat16, a sum of ones ends at 256.
    """
    sums = totals.new_zeros(count, totals.shape[1]).index_add(0, owners, totals)
    return sums / numbers.new_zeros(count).index_add(0, owners, numbers).clamp(min=1)[:, None]


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
