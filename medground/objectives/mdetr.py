"""MDETR's losses (Kamath et al. 2021), for the published network: `--architecture mdetr --norm post`.

l1, giou      of the boxes of queries that are matched to true boxes, weights 5 and 2.
soft-token    cross-entropy of a matched query with equal shares of the phrase's tokens, and of the others
              with "no object", whose weight is 0.1.
align         contrast of matched queries with the tokens of the phrase, temperature 0.07, in both directions.
aux-...       the same for the earlier decoder layers, each with its own matching.

Sums are divided by the number of true boxes [MDETR's code]. Differences: padded tokens are no negatives of
`align`.

Letters: N pairs, M true boxes, Q queries, L layers, T tokens, E width of aligned features.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from medground import ops
from medground.objectives import distributed
from medground.objectives.objective import Encoded, Objective

NO_OBJECT_WEIGHT, TEMPERATURE = 0.1, 0.07
NAMES = ("l1", "giou", "soft-token", "align")
L1, GIOU = 5.0, 2.0  # weights in the matching; the class has weight 1


class MDETRLosses(Objective):
    """The losses of all decoder layers; the network has the heads."""

    def forward(self, encoded: Encoded, batch: Any) -> dict[str, Tensor]:
        """Return the losses of the last layer, and the sums of those of earlier ones as aux-..."""
        predictions = encoded.predictions
        assert predictions is not None
        boxes, words, queries, texts = (each.float() for each in predictions.more)
        mask = encoded.mask[batch.text_of]
        shares = token_shares(mask, words.shape[-1])
        losses = []
        for layer in range(boxes.shape[1]):
            found = (boxes[:, layer], words[:, layer])
            pair, query, true = match(*found, shares, batch.boxes, batch.box_of)
            logits = queries[:, layer] @ texts.transpose(1, 2) / TEMPERATURE
            count = distributed.shared_count(len(pair), boxes)
            own = box_losses(found[0][pair, query], true)
            losses.append(
                (
                    *(each / count for each in own),
                    soft_token_loss(found[1], shares, pair, query) / count,
                    align_loss(logits, shares[:, : texts.shape[1]] > 0, mask, pair, query) / count,
                )
            )
        *earlier, last = (dict(zip(NAMES, each, strict=True)) for each in losses)
        zero = boxes.sum() * 0
        aux = {f"aux-{name}": sum((each[name] for each in earlier), zero) for name in NAMES}
        return {**last, **aux}


def token_shares(mask: Tensor, classes: int) -> Tensor:
    """Return (N, C) equal shares, with sum 1, of the tokens of each phrase but its first and last one.

    mask: (N, T). A phrase without any other token has zeros, and so have tokens from `classes` - 1 on.
    """
    inner = mask.clone()
    inner[:, 0] = False
    inner.scatter_(1, mask.sum(dim=1, keepdim=True) - 1, False)
    within = inner[:, : classes - 1].float()
    shares = functional.pad(within, (0, classes - within.shape[1]))
    return shares / shares.sum(dim=1, keepdim=True).clamp(min=1)


@torch.no_grad()
def match(
    found: Tensor, words: Tensor, shares: Tensor, boxes: Tensor, box_of: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return pair (K,), query (K,) and true box (K, 4) of the assignment with the lowest cost.

    found: (N, Q, 4). words: (N, Q, C) logits. shares: (N, C). The cost is 5 L1 - 2 GIoU minus the probability
    of the phrase's tokens.
    """
    from scipy.optimize import linear_sum_assignment

    own = found[box_of]  # (M, Q, 4)
    true = boxes[:, None].expand_as(own)
    overlap = ops.generalized_iou(ops.cxcywh_to_xyxy(own), ops.cxcywh_to_xyxy(true))
    said = (words.softmax(dim=2) * shares[:, None]).sum(dim=2)[box_of]
    table = (L1 * (own - true).abs().sum(dim=2) - GIOU * overlap - said).double().cpu()
    rows, chosen, queries = box_of.cpu(), [], []
    for pair in rows.unique():
        mine = (rows == pair).nonzero()[:, 0]
        first, second = linear_sum_assignment(table[mine].numpy())
        chosen.append(mine[torch.from_numpy(first)])
        queries.append(torch.from_numpy(second))
    at = torch.cat([rows[:0], *chosen]).to(boxes.device)
    return box_of[at], torch.cat([rows[:0], *queries]).to(at), boxes[at]


def box_losses(found: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of L1 and of 1 - GIoU over (K, 4) boxes."""
    overlap = ops.generalized_iou(ops.cxcywh_to_xyxy(found), ops.cxcywh_to_xyxy(true))
    return (found - true).abs().sum(), (1 - overlap).sum()


def soft_token_loss(words: Tensor, shares: Tensor, pair: Tensor, query: Tensor) -> Tensor:
    """Return the sum of cross-entropies of (N, Q, C) logits; pair, query: (K,) of the matched ones."""
    target = torch.zeros_like(words)
    target[..., -1] = 1
    target[pair, query] = shares[pair]
    weights = words.new_full(words.shape[:2], NO_OBJECT_WEIGHT)
    weights[pair, query] = 1
    costs = -(words.log_softmax(dim=2) * target).sum(dim=2)
    return (costs * weights).sum()


def align_loss(logits: Tensor, phrase: Tensor, mask: Tensor, pair: Tensor, query: Tensor) -> Tensor:
    """Return half the sum of the contrasts of matched queries with tokens, and of tokens with queries.

    logits: (N, Q, T). phrase: (N, T), True on the phrase's tokens. mask: (N, T), False on padding.
    """
    belongs = torch.zeros_like(logits, dtype=torch.bool)
    belongs[pair, query] = phrase[pair]
    negatives = logits.masked_fill(~mask[:, None], torch.finfo(logits.dtype).min)
    return (_contrast(logits, negatives, belongs, 2) + _contrast(logits, logits, belongs, 1)) / 2


def _contrast(logits: Tensor, negatives: Tensor, belongs: Tensor, axis: int) -> Tensor:
    count = belongs.sum(dim=axis)
    own = logits.masked_fill(~belongs, 0).sum(dim=axis) / count.clamp(min=1)
    return (negatives.logsumexp(dim=axis) - own).masked_fill(count == 0, 0).sum()
