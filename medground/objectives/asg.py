"""Anatomical structure-guided pre-training (ASG; Li et al., MICCAI 2024, arXiv 2403.09294), by its formulas.

ira   image-report alignment: whole images against whole reports of the batch.
arsa  region-sentence alignment: the pairs of one image against each other.
irl   image recognition: 40 tags, each a query over the image's patches.
erl   report-report similarity of the tags as soft targets for image-report alignment.
L = ira + arsa + 5 irl + erl, temperature 0.07 throughout.

Ours: the patches are those that the grounding network fuses, after its visual layers; a whole image is the
mean of its patches; a report is the mean of the words of its sentences, each encoded once a batch, so that it
may be longer than the text encoder reads; word pieces and the marks around a text count as words; findings in
doubt are left out of irl. The text encoder keeps all its layers (published: six), and films are letterboxed
to the model's size, not cropped to 224. With `align --existence absent` sentences that deny a finding are
pairs, too.

Letters: B images, U texts, T tokens, D width, R region-sentence pairs, E embedding, n images with a report.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medground.models import layers
from medground.models.grounder import Grounder
from medground.models.network import Images
from medground.objectives import heads, tags
from medground.objectives.distributed import gathered, mean
from medground.objectives.objective import Encoded, Objective
from medground.objectives.report_batch import Reports, means, words_of

TEMPERATURE = 0.07
OWN, RELATED, TINY = 0.8, 0.2, 1e-6  # what a soft target owes to the pair itself and to similar tags


class ASG(Objective):
    """The four losses and their heads."""

    def __init__(self, model: Grounder):
        super().__init__(model)
        width = model.config.width
        self.image, self.report = heads.Projection(width), heads.Projection(width)
        self.patch, self.word = heads.Projection(width), heads.Projection(width)
        self.recogniser = Recogniser(model)

    def forward(self, encoded: Encoded, batch: Any) -> dict[str, Tensor]:
        """The losses of the batch's reports; images without one cost nothing."""
        told: Reports = batch.reports
        images, reports = self.wholes(encoded, told)
        similar = heads.similarity(gathered(images), gathered(reports), TEMPERATURE)
        areas, sentences = self.parts(encoded, told)
        return {
            "ira": heads.contrast(similar),
            "arsa": within_images(heads.similarity(areas, sentences, TEMPERATURE), told.pair_images),
            "irl": recognition_loss(self.recogniser(encoded.images)[told.read], told.tags[told.read]),
            "erl": relation_loss(similar, gathered(told.tags[told.read])),
        }

    def wholes(self, encoded: Encoded, told: Reports) -> tuple[Tensor, Tensor]:
        """(n, E) embeddings of the images that have a report, and of their reports."""
        words = words_of(encoded.tokens, encoded.mask, told.sentences, told.report_of)
        reports = means(*words, count=len(told.read))
        return self.image(heads.pooled(encoded.images)[told.read]), self.report(reports[told.read])

    def parts(self, encoded: Encoded, told: Reports) -> tuple[Tensor, Tensor]:
        """(R, E) embeddings of the regions, and of the sentences that speak of them."""
        patches = self.patch(encoded.images.patches.flatten(0, 1))
        maps = patches.unflatten(0, encoded.images.patches.shape[:2]).transpose(1, 2)
        maps = maps.unflatten(2, encoded.images.grid.shape[-2:])
        rows, place = told.pair_texts.unique(return_inverse=True)
        words, owner = words_of(
            encoded.tokens, encoded.mask, rows, torch.arange(len(rows), device=rows.device)
        )
        sentences = means(self.word(words), owner, len(rows))[place]
        return heads.roi_align(maps, told.pair_boxes, told.pair_images), sentences


class Recogniser(nn.Module):
    """40 queries over the patches of an image: 4 pre-norm decoder layers, 4 heads, FFN 1024, dropout 0.1.

    A query is what the text encoder made of the tag's name before training: frozen, computed once.
    """

    def __init__(self, model: Grounder):
        super().__init__()
        width = model.config.width
        names = name_features(model, list(tags.NAMES))
        self.register_buffer("names", names)
        self.to_queries = nn.Linear(names.shape[1], width)
        self.decoder = layers.decoder(4, width, 4, 1024, 0.1)
        self.decide = nn.Linear(width, 1)

    def forward(self, images: Images) -> Tensor:
        """(B, 40) logits of the tags."""
        queries = self.to_queries(self.names).expand(len(images.patches), -1, -1)
        found = self.decoder(queries, images.patches, memory_key_padding_mask=~images.seen)
        return self.decide(found)[..., 0]


@torch.no_grad()
def name_features(model: Grounder, names: list[str]) -> Tensor:
    """(n, H) the mean of what the text encoder gives for the tokens of each name, as it is now."""
    encoder = model.network.text_encoder
    was = encoder.training
    ids, mask = (each.to(model.device) for each in model.tokenize(names))
    hidden = encoder.eval()(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    encoder.train(was)
    weights = mask[..., None].to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1)


def within_images(similar: Tensor, images: Tensor) -> Tensor:
    """The mean over (R, R) pairs of row plus column cross-entropy, each among the pairs of its own image.

    images: (R,). A pair that is alone in its image costs 0, and so does no pair at all.
    """
    own = similar.masked_fill(images[:, None] != images, -torch.inf)
    return mean(own.logsumexp(dim=0) + own.logsumexp(dim=1) - 2 * own.diagonal())


def recognition_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean binary cross-entropy of (n, 40) logits where the labels are 0 or 1; 0 where none is."""
    known = labels >= 0
    return mean(
        functional.binary_cross_entropy_with_logits(logits[known].float(), labels[known], reduction="none")
    )


def relation_loss(similar: Tensor, labels: Tensor) -> Tensor:
    """Half of KL(q || p) + KL(p || q), the mean over rows and over both directions; 0 for no row.

    p: softmax of (n, n) similar and of its transpose. q: rows of 0.8 I + 0.2 cos(tags) + 1e-6 that sum to 1;
    labels: (n, 40), doubt counting as absence. Tags that are all 0 are like none, not even themselves.
    """
    if not len(similar):
        return similar.sum()
    present = functional.normalize(labels.clamp(min=0), dim=1)
    own = torch.eye(len(labels), dtype=labels.dtype, device=labels.device)
    soft = functional.normalize(OWN * own + RELATED * (present @ present.T) + TINY, p=1, dim=1)
    both = []
    for logits in (similar, similar.T):
        guess, truth = logits.log_softmax(dim=1), soft.log()
        both.append(((soft - guess.exp()) * (truth - guess)).sum(dim=1).mean())
    return torch.stack(both).mean() / 2
