"""Grounded knowledge pre-training (GK-MVLP; Deng et al., arXiv 2404.14750): a reconstruction of ours.

The paper's code is not public; only its idea is followed: features of medical knowledge attend to the regions
that they are about and join the whole image's features, which four objectives then use.

itc   image-report contrast, symmetric, temperature 0.07.
itm   does this report belong to this image? Negatives are drawn from the batch by how alike they look.
lm    the report, token by token, from the grounded visual tokens.
ecls  which findings the report says are present, from their grounded knowledge.

Ours is all that follows. Every finding of `knowledge.toml` asks every image, named in its report or not, and
may look at the regions where the table says that it lies: were the regions taken from the report, its words
would leak into what is to foretell them, and a film without a report could not be read. A finding none of
whose regions has a box looks at a learned "nowhere". All weights are 1; the projections of itc are ASG's.
Findings in doubt are left out of ecls. Negatives of itm come from the same process; those of itc from all.

Letters: B images, P patches, F findings, G named regions, D width, U texts, T tokens, L tokens of a report,
V vocabulary, n images with a report.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medground.anatomy import regions
from medground.models import layers
from medground.models.config import GrounderConfig
from medground.models.grounder import Grounder
from medground.objectives import heads, knowledge
from medground.objectives.asg import recognition_loss
from medground.objectives.distributed import gathered, mean
from medground.objectives.objective import Encoded, Objective
from medground.objectives.report_batch import Reports, lines, means, words_of

TEMPERATURE = 0.07
LAYERS = 2  # of each of the three small transformers
LONGEST = 160  # tokens of a report that lm and itm read


class GKMVLP(Objective):
    """The four losses and their heads; `masked`: whether a finding looks at its own regions alone."""

    texts: Sequence[str] = knowledge.TEXTS
    masked = True

    def __init__(self, model: Grounder):
        super().__init__(model)
        config = model.config
        self.grounding = Grounding(config, self.masked)
        self.present = nn.Linear(config.width, 1)
        self.image, self.report = heads.Projection(config.width), heads.Projection(config.width)
        self.matcher, self.matches = _decoder(config), nn.Linear(config.width, 1)
        self.writer = Writer(model)

    def forward(self, encoded: Encoded, batch: Any) -> dict[str, Tensor]:
        """The losses of the batch's reports; images without one cost nothing."""
        told: Reports = batch.reports
        entities = self.ground(encoded, told)
        images, reports = self.wholes(encoded, told, entities)
        similar = heads.similarity(gathered(images), gathered(reports), TEMPERATURE)
        rows, places, valid = (each[told.read] for each in lines(encoded.mask, told, LONGEST))
        memory, hidden = self.memory(encoded, entities, told)
        words, ids = encoded.tokens[rows, places], batch.ids[rows, places]
        chances = partners(heads.similarity(images, reports, TEMPERATURE), ids.masked_fill(~valid, -1))
        return {
            "itc": heads.contrast(similar),
            "itm": self.matching_loss(words, valid, memory, hidden, chances),
            "lm": mean(self.writer(ids, valid, memory, hidden)),
            "ecls": recognition_loss(self.recognise(entities)[told.read], told.findings[told.read]),
        }

    def ground(self, encoded: Encoded, told: Reports) -> Tensor:
        """(B, F, D) each finding's knowledge with what it found in its regions of each image."""
        words = words_of(
            encoded.tokens,
            encoded.mask,
            told.always,
            torch.arange(len(told.always), device=told.always.device),
        )
        known = means(*words, count=len(told.always))
        found = heads.roi_align(heads.patch_map(encoded.images), told.region_boxes, told.region_images)
        shape = (len(told.read), len(regions.NAMES))
        areas = found.new_zeros(*shape, found.shape[1])
        there = torch.zeros(shape, dtype=torch.bool, device=found.device)
        areas[told.region_images, told.regions] = found
        there[told.region_images, told.regions] = True
        return self.grounding(known, areas, there)

    def recognise(self, entities: Tensor) -> Tensor:
        """(B, F) logits that each finding is present."""
        return self.present(entities)[..., 0]

    def wholes(self, encoded: Encoded, told: Reports, entities: Tensor) -> tuple[Tensor, Tensor]:
        """(n, E) embeddings of the images that have a report, and of their reports."""
        images = heads.pooled(encoded.images) + entities.mean(dim=1)
        words = words_of(encoded.tokens, encoded.mask, told.sentences, told.report_of)
        reports = means(*words, count=len(told.read))
        return self.image(images[told.read]), self.report(reports[told.read])

    def memory(self, encoded: Encoded, entities: Tensor, told: Reports) -> tuple[Tensor, Tensor]:
        """(n, P + F, D) visual tokens of the images that have a report; (n, P + F) True where not to look."""
        tokens = torch.cat([encoded.images.patches, entities], dim=1)[told.read]
        all_seen = entities.new_ones(entities.shape[:2], dtype=torch.bool)
        return tokens, ~torch.cat([encoded.images.seen, all_seen], dim=1)[told.read]

    def match(self, words: Tensor, valid: Tensor, memory: Tensor, hidden: Tensor) -> Tensor:
        """(m,) logits that report i, (m, L, D) words, belongs to image i, (m, P + F, D) tokens."""
        if not words.numel():
            return words.sum(dim=(1, 2))
        read = self.matcher(
            words, memory, tgt_key_padding_mask=~valid, memory_key_padding_mask=hidden
        )  # (m, L, D)
        weights = valid[..., None].to(read.dtype)
        return self.matches((read * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1))[:, 0]

    def matching_loss(
        self, words: Tensor, valid: Tensor, memory: Tensor, hidden: Tensor, chances: Tensor
    ) -> Tensor:
        """The mean binary cross-entropy of true pairs, of each image with a wrong report and each report with
        a wrong image; `chances` are those of `partners`."""
        own = torch.arange(len(words), device=words.device)
        image, other_report = _drawn(chances, own)
        report, other_image = _drawn(chances.T, own)
        images, reports = torch.cat([own, image, other_image]), torch.cat([own, other_report, report])
        logits = self.match(words[reports], valid[reports], memory[images], hidden[images])
        true = (torch.arange(len(logits), device=logits.device) < len(own)).float()
        return mean(functional.binary_cross_entropy_with_logits(logits.float(), true, reduction="none"))


class Unmasked(GKMVLP):
    """The same with every finding looking at all regions: what the mask is worth."""

    masked = False


@torch.no_grad()
def partners(similar: Tensor, ids: Tensor) -> Tensor:
    """(n, n) how good a negative report j is for image i: the higher the more alike, and 0 for its own report
    and for one of the same words.

    similar: (n, n) logits; ids: (n, L) token ids, -1 beyond a report's end.
    """
    same = (ids[:, None] == ids[None]).all(dim=2)
    return (similar - similar.max()).exp().clamp(min=1e-6).masked_fill(same, 0) if len(ids) else similar


def _drawn(chances: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that have any chance, and one column for each of them."""
    able = own[chances.sum(dim=1) > 0]
    if not len(able):
        return able, able
    return able, torch.multinomial(chances[able], 1)[:, 0]


def _decoder(config: GrounderConfig) -> nn.Module:
    return layers.decoder(LAYERS, config.width, config.heads, config.feed_forward, config.dropout)


class Grounding(nn.Module):
    """Findings look at the regions of an image: pre-norm cross-attention, with a feed-forward part."""

    allowed: Tensor

    def __init__(self, config: GrounderConfig, masked: bool):
        super().__init__()
        self.blocks = nn.ModuleList(Look(config) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(config.width)
        self.nowhere = nn.Parameter(torch.randn(config.width) * 0.02)
        self.register_buffer("allowed", places() if masked else torch.ones_like(places()), persistent=False)

    def forward(self, known: Tensor, areas: Tensor, there: Tensor) -> Tensor:
        """(B, F, D) of (F, D) knowledge, (B, G, D) regions and (B, G), True for regions that have a box."""
        count = len(areas)
        looked = torch.cat([self.nowhere.to(areas.dtype).expand(count, 1, -1), areas], dim=1)
        may = self.allowed & there[:, None]
        may = torch.cat([may.new_ones(*may.shape[:2], 1), may], dim=2)
        asked = known.expand(count, -1, -1)
        for block in self.blocks:
            asked = block(asked, looked, may)
        return self.norm(asked)


class Look(nn.Module):
    """One layer of it."""

    def __init__(self, config: GrounderConfig):
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.asks, self.looks, self.thinks = (nn.LayerNorm(width) for _ in range(3))
        self.attention = nn.MultiheadAttention(width, config.heads, batch_first=True)
        self.inner = layers.mlp(width, config.feed_forward, width)

    def forward(self, asked: Tensor, looked: Tensor, may: Tensor) -> Tensor:
        """(B, F, D) of (B, F, D) and (B, G, D); may: (B, F, G), True where to look."""
        looked, barred = self.looks(looked), ~may.repeat_interleave(self.heads, dim=0)
        seen, _ = self.attention(self.asks(asked), looked, looked, attn_mask=barred, need_weights=False)
        asked = asked + seen
        return asked + self.inner(self.thinks(asked))


def places() -> Tensor:
    """(F, G) True where a finding may lie in a region."""
    return torch.tensor([[name in own for name in regions.NAMES] for own in knowledge.REGIONS])


class Writer(nn.Module):
    """A causal decoder over the visual tokens; it shares the text encoder's table of words, both ways."""

    def __init__(self, model: Grounder):
        super().__init__()
        config = model.config
        embeddings: nn.Embedding = model.network.text_encoder.get_input_embeddings()  # type: ignore[operator]
        self.words = [embeddings]  # in a list: not a part of this one
        hidden = self.words[0].weight.shape[1]
        self.enter, self.leave = nn.Linear(hidden, config.width), nn.Linear(config.width, hidden)
        self.positions = nn.Parameter(torch.randn(LONGEST, config.width) * 0.02)
        self.decoder = _decoder(config)

    def forward(self, ids: Tensor, valid: Tensor, memory: Tensor, hidden: Tensor) -> Tensor:
        """(k,) the negative log-likelihood of each token of the reports after the first, and of their end.

        ids, valid: (n, L), padded at the end. A report ends with the token that opens it; one that fills all
        LONGEST places was cut there, in all likelihood, and what comes next is not asked.
        """
        if not ids.numel():
            return memory.sum(dim=(1, 2))[:0]
        lengths = valid.sum(dim=1, keepdim=True)
        given = ids.masked_fill(~valid, 0)
        wanted = torch.cat([given[:, 1:], given[:, :1]], dim=1)
        last = torch.arange(ids.shape[1], device=ids.device) == lengths - 1
        wanted = torch.where(last, given[:, :1], wanted)
        asked = valid & ~(last & (lengths == LONGEST))
        logits = self.logits(given, memory, hidden)
        return functional.cross_entropy(logits[asked].float(), wanted[asked], reduction="none")

    def logits(self, ids: Tensor, memory: Tensor, hidden: Tensor) -> Tensor:
        """(n, L, V) logits of the token after each of (n, L) ids, of which it sees those before alone."""
        length = ids.shape[1]
        tokens = self.enter(self.words[0](ids)) + self.positions[:length]
        later = torch.ones(length, length, dtype=torch.bool, device=ids.device).triu(1)
        read = self.decoder(tokens, memory, tgt_mask=later, memory_key_padding_mask=hidden)
        return functional.linear(self.leave(read), self.words[0].weight)
