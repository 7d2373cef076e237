"""What the reports of a batch say, as tensors, for objectives that read them.

Letters: B images, U distinct texts of the batch, T tokens, S sentences, R region-sentence pairs, K boxes of
named regions, F findings, L tokens of a report, D width.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Reports:
    """The reports of B images; texts are row numbers of the batch's U texts.

    sentences, report_of (S,): the text and the image of each sentence, image by image, in the report's order.
    pair_texts, pair_images (R,), pair_boxes (R, 4): what a sentence speaks of. regions, region_images (K,),
    region_boxes (K, 4): numbers in `anatomy.regions.NAMES`. Boxes are normalised [cx, cy, w, h].
    tags (B, 40), findings (B, F): 1 present, 0 absent or not spoken of, -1 uncertain.
    read (B,): False for an image without a report. always: the texts that objectives bring along.
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
    read: Tensor
    always: Tensor

    def to(self, device: torch.device) -> "Reports":
        """The same on a device."""
        return Reports(**{each.name: getattr(self, each.name).to(device) for each in fields(self)})

    def boxes(self) -> tuple[Tensor, Tensor]:
        """(R + K, 4) all boxes, and (R + K,) the image of each."""
        images = torch.cat([self.pair_images, self.region_images])
        return torch.cat([self.pair_boxes, self.region_boxes]), images

    def on_views(self, boxes: Tensor, there: Tensor) -> "Reports":
        """The reports of new views of the images, where `boxes()` lie at (R + K, 4) if (R + K,) `there`.

        What is not there is left out. A view on which none of an image's boxes is left shows no chest any
        more, and its report is not read.
        """
        count, images = len(self.pair_boxes), self.boxes()[1]
        had, has = (torch.bincount(each, minlength=len(self.read)) > 0 for each in (images, images[there]))
        pair, region = there[:count], there[count:]
        return replace(
            self,
            read=self.read & (has | ~had),
            pair_texts=self.pair_texts[pair],
            pair_images=self.pair_images[pair],
            pair_boxes=boxes[:count][pair],
            regions=self.regions[region],
            region_images=self.region_images[region],
            region_boxes=boxes[count:][region],
        )


def words_of(tokens: Tensor, mask: Tensor, rows: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
    """(n, D) the tokens of these text rows, one after another, and (n,) the owner of each.

    tokens: (U, T, D); mask: (U, T); rows, owners: (S,).
    """
    kept = mask[rows]
    return tokens[rows][kept], owners[:, None].expand_as(kept)[kept]


def means(values: Tensor, owners: Tensor, count: int) -> Tensor:
    """(count, D) the mean of the (n, D) rows that each owner has; 0 for one that has none."""
    sums = values.new_zeros(count, values.shape[1]).index_add(0, owners, values)
    sizes = torch.bincount(owners, minlength=count)[:, None].clamp(min=1)
    return sums / sizes


def lines(mask: Tensor, reports: Reports, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, places and valid, each (B, L): where the tokens of each report, in their order, stand among
    (U, T) tokens; L is the longest report's length, at most `most`.

    The first token of a text opens it: of a report's sentences only the first one's is kept. What is not
    valid is row 0, place 0.
    """
    kept = mask[reports.sentences].clone()
    opens = torch.ones_like(reports.report_of, dtype=torch.bool)
    opens[1:] = reports.report_of[1:] != reports.report_of[:-1]
    kept[:, 0] &= opens
    sentence, place = kept.nonzero(as_tuple=True)
    owner = reports.report_of[sentence]
    lengths = torch.bincount(owner, minlength=len(reports.read))
    at = torch.arange(len(owner), device=owner.device) - (lengths.cumsum(0) - lengths)[owner]
    within = at < most
    shape = (len(reports.read), int(lengths.max().clamp(max=most)))
    rows, places = (torch.zeros(shape, dtype=torch.long, device=owner.device) for _ in range(2))
    rows[owner[within], at[within]] = reports.sentences[sentence[within]]
    places[owner[within], at[within]] = place[within]
    valid = torch.arange(shape[1], device=owner.device) < lengths[:, None]
    return rows, places, valid
