"""Grounded knowledge pre-training (GK-MVLP; Deng et al., arXiv 2404.14750): a reconstruction.

The paper's code is not public. As in the paper, features of medical knowledge attend to the regions that they
are about and are added to the image features, which four losses use.

itc   image-report contrast, symmetric, temperature 0.07.
itm   image-report matching. Negatives are sampled from the batch by similarity.
lm    language modeling of the report from the visual tokens and the grounded knowledge of its findings.
ecls  the findings that the report states as present, from their grounded knowledge.

The rest is ours. Every finding of `knowledge.toml` is a query for every image, whether or not its report
names it. It attends to the regions in which the table locates it. If the regions came from the report, its
words would leak into the prediction targets, and images without a report could not be processed. A finding
without a box of any of its regions attends to a learned "nowhere" token. Knowledge features are centered over
the findings, features of each region are normalized over the images, and each finding is recognized with
weights of its own. itc compares the knowledge of the recognized findings with the words of the report, by
projections as ASG's, and itm adds its logit to that of the decoder. The writer attends to the patches and to
the knowledge of some findings only: in training of those that the report states as present, and for a new
image of those whose probability reaches a threshold (as the prompts of PromptMRG, Jin et al., AAAI 2024). All
weights are 1. Equal reports of a batch are one target of itc. Uncertain findings are left out of ecls.
Negatives of itm come from the same process, those of itc from all.

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
from medground.objectives.objective import Encoded
from medground.objectives.report_batch import ReportBatch, text_means
from medground.objectives.writer import LAYERS, Writer, Writes, decoder

TEMPERATURE = 0.07
LOSSES = ("itc", "itm", "lm", "ecls")
DIGITS = 4  # of probabilities that are compared with thresholds


class GKMVLP(Writes):
    """The four losses and their heads; `masked`: a finding attends only to its own regions."""

    texts: Sequence[str] = knowledge.TEXTS
    masked = True
    thresholds: Tensor  # (F,) probabilities from which the writer of a new image gets a finding

    def __init__(self, model: Grounder):
        super().__init__(model)
        config = model.config
        self.grounding = KnowledgeGrounding(config, self.masked)
        self.present = nn.Linear(config.width, len(knowledge.NAMES))
        self.image, self.report = heads.Projection(config.width), heads.Projection(config.width)
        self.image_norm, self.report_norm = heads.RowNorm(config.width), heads.RowNorm(config.width)
        self.matcher, self.matches = decoder(config), nn.Linear(config.width, 1)
        self.agreement = nn.Parameter(torch.ones(()))
        self.writer = Writer(model)
        half = torch.full((len(knowledge.NAMES),), 0.5)
        self.register_buffer("thresholds", half, persistent=False)

    def forward(self, encoded: Encoded, batch: Any) -> dict[str, Tensor]:
        """Return the losses of the batch's reports; images without a report do not count."""
        reports: ReportBatch = batch.reports
        at = reports.found(encoded.mask)
        known, kept = known_of(encoded, reports), at.reported
        entities = self.ground(encoded, reports, known)
        found = dict.fromkeys(LOSSES, entities.sum() * 0)
        wanted = set(LOSSES) - self.skipped
        if "ecls" in wanted:
            found["ecls"] = recognition_loss(self.recognise(entities)[kept], reports.findings[kept])
        if wanted & {"itc", "itm"}:
            images, whole_reports = self.wholes(encoded, reports, entities, known)
        if "itc" in wanted:
            every = heads.similarity(gathered(images), gathered(whole_reports), TEMPERATURE)
            found["itc"] = heads.contrast(every, reports.same(kept))
        if not wanted & {"itm", "lm"}:
            return found
        memory, hidden = self.memory(encoded, entities, reports)
        valid, ids = at.valid, batch.ids[at.rows, at.places]
        if "itm" in wanted:
            similar = heads.similarity(images, whole_reports, TEMPERATURE)
            chances = partners(similar, ids.masked_fill(~valid, -1))
            words = encoded.tokens[at.rows, at.places]
            found["itm"] = self.matching_loss(words, valid, memory, hidden, similar, chances)
        if "lm" in wanted:
            hidden = only(reports.findings[kept] == 1, hidden)
            found["lm"] = mean(self.writer(ids, valid, memory, hidden, at.scored))
        return found

    def ground(self, encoded: Encoded, reports: ReportBatch, known: Tensor | None = None) -> Tensor:
        """Return (B, F, D) each finding's knowledge, updated by its regions of each image.

        known: as returned by `known_of`; None computes it.
        """
        known = known_of(encoded, reports) if known is None else known
        sizes = reports.found(encoded.mask).region_sizes
        boxes = reports.region_boxes, reports.region_images
        found = heads.roi_align(heads.patch_map(encoded.images), *boxes, sizes=sizes)
        shape = (len(reports.has_report), len(regions.NAMES))
        areas = found.new_zeros(*shape, found.shape[1])
        there = torch.zeros(shape, dtype=torch.bool, device=found.device)
        areas[reports.region_images, reports.regions] = found
        there[reports.region_images, reports.regions] = True
        result: Tensor = self.grounding(known, areas, there)
        return result

    def recognise(self, entities: Tensor) -> Tensor:
        """Return (B, F) logits that each finding is present; each finding has weights of its own."""
        return heads.each_own(self.present, entities)

    def chances(self, entities: Tensor) -> Tensor:
        """Return (B, F) rounded probabilities of the findings: their last digits depend on the batch size."""
        return self.recognise(entities).float().sigmoid().round(decimals=DIGITS)

    def wholes(
        self, encoded: Encoded, reports: ReportBatch, entities: Tensor, known: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return (n, E) embeddings of the images with a report, and of their reports.

        An image is the knowledge of its findings, weighted by their probabilities. A report is the mean of
        its words. Both are normalized over the images: most of them is the same for all. The contrast does
        not train the probabilities: most of a report is its phrasing, which no image predicts. known: as
        returned by `known_of`.
        """
        kept = reports.found(encoded.mask).reported
        shares = self.recognise(entities).detach().float().sigmoid()
        texts, count = (encoded.tokens.float(), encoded.mask), len(reports.has_report)
        features = text_means(*texts, reports.sentences, reports.report_of, count)[kept]
        with torch.autocast(features.device.type, enabled=False):  # as in `heads.Projection`
            images = shares[kept] @ known.float()
        return self.image(self.image_norm(images)), self.report(self.report_norm(features))

    def memory(self, encoded: Encoded, entities: Tensor, reports: ReportBatch) -> tuple[Tensor, Tensor]:
        """Return (n, P + F, D) visual tokens of the images with a report, and their mask, True if ignored."""
        kept = reports.found(encoded.mask).reported
        tokens = torch.cat([encoded.images.patches, entities], dim=1)[kept]
        all_visible = entities.new_ones(entities.shape[:2], dtype=torch.bool)
        return tokens, ~torch.cat([encoded.images.visible, all_visible], dim=1)[kept]

    def visual_tokens(self, encoded: Encoded, reports: ReportBatch) -> tuple[Tensor, Tensor]:
        """Return what `memory` does, without the reports; findings below their threshold are ignored."""
        entities, kept = self.ground(encoded, reports), reports.found(encoded.mask).reported
        memory, hidden = self.memory(encoded, entities, reports)
        return memory, only(self.chances(entities)[kept] >= self.thresholds, hidden)

    def match(self, words: Tensor, valid: Tensor, memory: Tensor, hidden: Tensor, similar: Tensor) -> Tensor:
        """Return (m,) logits that report i, (m, L, D) words, matches image i, (m, P + F, D) memory.

        similar: (m,) the logits of itc for the same pairs, to which the decoder adds.
        """
        if not words.numel():
            return words.sum(dim=(1, 2))
        outputs = self.matcher(
            words, memory, tgt_key_padding_mask=~valid, memory_key_padding_mask=hidden
        )  # (m, L, D)
        weights = valid[..., None].to(outputs.dtype)
        features = (outputs * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        result: Tensor = self.matches(features)[:, 0] + self.agreement * similar
        return result

    def matching_loss(
        self,
        words: Tensor,
        valid: Tensor,
        memory: Tensor,
        hidden: Tensor,
        similar: Tensor,
        chances: Tensor,
    ) -> Tensor:
        """Return the mean binary cross-entropy of true pairs, and of each image and report with a wrong one.

        similar: (n, n) logits of itc. chances: as returned by `partners`.
        """
        own = torch.arange(len(words), device=words.device)
        image, other_report = _sampled(chances, own)
        report, other_image = _sampled(chances.T, own)
        images, reports = torch.cat([own, image, other_image]), torch.cat([own, other_report, report])
        given = words[reports], valid[reports], memory[images], hidden[images]
        logits = self.match(*given, similar[images, reports])
        true = (torch.arange(len(logits), device=logits.device) < len(own)).float()
        return mean(functional.binary_cross_entropy_with_logits(logits.float(), true, reduction="none"))


class Unmasked(GKMVLP):
    """GKMVLP in which every finding attends to all regions, as an ablation."""

    masked = False


def only(shown: Tensor, hidden: Tensor) -> Tensor:
    """Return the (n, P + F) mask of visual tokens, also True for findings that (n, F) `shown` leaves out."""
    patches = shown.new_zeros(len(hidden), hidden.shape[1] - shown.shape[1])
    return hidden | torch.cat([patches, ~shown], dim=1)


@torch.no_grad()
def partners(similar: Tensor, ids: Tensor) -> Tensor:
    """Return (n, n) sampling weights of report j as negative for image i, by similarity.

    The weight is 0 for the image's report and for reports with the same words. similar: (n, n) logits. ids:
    (n, L) token ids, -1 after a report's end.
    """
    same = (ids[:, None] == ids[None]).all(dim=2)
    return (similar - similar.max()).exp().clamp(min=1e-6).masked_fill(same, 0) if len(ids) else similar


def _sampled(chances: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows with any positive weight, and one sampled column for each."""
    able = own[chances.sum(dim=1) > 0]
    if not len(able):
        return able, able
    shares = chances[able]
    # as torch.multinomial draws one, which also checks its argument and waits for the result
    return able, (shares / torch.empty_like(shares).exponential_(1)).argmax(dim=1)


class KnowledgeGrounding(nn.Module):
    """Cross-attention of findings to the regions of an image: pre-norm, with a feed-forward part."""

    allowed: Tensor

    def __init__(self, config: GrounderConfig, masked: bool):
        super().__init__()
        self.blocks = nn.ModuleList(GroundingLayer(config) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(config.width)
        self.areas = heads.RegionNorm(len(regions.NAMES), config.width)
        self.nowhere = nn.Parameter(torch.randn(config.width) * 0.02)
        self.register_buffer("allowed", places() if masked else torch.ones_like(places()), persistent=False)

    def forward(self, known: Tensor, areas: Tensor, there: Tensor) -> Tensor:
        """Return (B, F, D) of (F, D) knowledge, (B, G, D) regions and (B, G), True for those with a box."""
        count, areas = len(areas), self.areas(areas, there).to(areas.dtype)
        keys = torch.cat([self.nowhere.to(areas.dtype).expand(count, 1, -1), areas], dim=1)
        may = self.allowed & there[:, None]
        may = torch.cat([may.new_ones(*may.shape[:2], 1), may], dim=2)
        queries = known.expand(count, -1, -1)
        for block in self.blocks:
            queries = block(queries, keys, may)
        result: Tensor = self.norm(queries)
        return result


class GroundingLayer(nn.Module):
    """One layer of KnowledgeGrounding."""

    def __init__(self, config: GrounderConfig):
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.query_norm, self.key_norm, self.inner_norm = (nn.LayerNorm(width) for _ in range(3))
        self.attention = nn.MultiheadAttention(width, config.heads, batch_first=True)
        self.inner = layers.mlp(width, config.feed_forward, width)

    def forward(self, queries: Tensor, keys: Tensor, may: Tensor) -> Tensor:
        """Return updated (B, F, D) queries; keys: (B, G, D); may: (B, F, G), True to attend."""
        keys, barred = self.key_norm(keys), ~may.repeat_interleave(self.heads, dim=0)
        found, _ = self.attention(self.query_norm(queries), keys, keys, attn_mask=barred, need_weights=False)
        queries = queries + found
        result: Tensor = queries + self.inner(self.inner_norm(queries))
        return result


def known_of(encoded: Encoded, reports: ReportBatch) -> Tensor:
    """Return (F, D) the knowledge of each finding, the mean of the words of its sentence, as of `apart`."""
    numbers = torch.arange(len(reports.always), device=reports.always.device)
    return heads.apart(text_means(encoded.tokens, encoded.mask, reports.always, numbers, len(numbers)))


def places() -> Tensor:
    """Return (F, G), True if the finding can be located in the region."""
    return torch.tensor([[name in own for name in regions.NAMES] for own in knowledge.REGIONS])
