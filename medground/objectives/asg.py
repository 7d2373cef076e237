"""Anatomical structure-guided pre-training (ASG; Li et al., MICCAI 2024, arXiv 2403.09294), by its formulas.

ira   image-report alignment: whole images against whole reports of the batch.
arsa  region-sentence alignment: the pairs of one image against each other.
irl   image recognition: 40 tags, each a query over the image's patches.
erl   report-report similarity of the tags as soft targets for image-report alignment.
L = ira + arsa + 5 irl + erl, temperature 0.07 throughout.

Differences: the patches are those after the visual layers of the grounding network. An image feature is the
mean of its patches. A report feature is the mean of the words of its sentences; each sentence is encoded
once per batch, so a report may be longer than the text encoder's limit. Special tokens count as words, and
word pieces do without --sum-word-pieces. The tag decoder is ours (see `Recogniser`); `asg-cls` has the
published one. Equal reports of a batch, and equal boxes or sentences of an image, are one target with equal
shares: their loss is 0 if they are predicted with equal shares. Uncertain findings are left out of irl. The
text encoder keeps all its layers without --text-layers 6. Images have the model's size and no window
without --image-size 224 and --augment window. With `align --existence absent` sentences about absent
findings are pairs, too.

Letters: B images, U texts, T tokens, D width, R region-sentence pairs, E embedding, n images with a report.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medground.errors import MedgroundError
from medground.models import layers
from medground.models.encoders import WORD_MARK
from medground.models.grounder import Grounder
from medground.models.network import EncodedImages
from medground.objectives import heads, tags
from medground.objectives.distributed import gathered, mean
from medground.objectives.objective import Encoded, Objective
from medground.objectives.report_batch import ReportBatch, find, means, text_means

TEMPERATURE = 0.07
LOSSES = ("ira", "arsa", "irl", "erl")
# weights in a soft target: of the pair itself and of similar tags, and a small constant
OWN, RELATED, TINY = 0.8, 0.2, 1e-6


class ASG(Objective):
    """The four losses and their heads."""

    pieces: Tensor | None

    def __init__(self, model: Grounder):
        super().__init__(model)
        width = model.config.width
        self.image, self.report = heads.Projection(width), heads.Projection(width)
        self.patch, self.word = heads.Projection(width), heads.Projection(width)
        self.recogniser = self.tag_decoder(model)
        pieces = continuing(model) if model.config.sum_word_pieces else None
        self.register_buffer("pieces", pieces, persistent=False)

    def forward(self, encoded: Encoded, batch: Any) -> dict[str, Tensor]:
        """Return the losses of the batch's reports; images without a report do not count."""
        reports: ReportBatch = batch.reports
        if self.pieces is not None:
            words = heads.whole_words(encoded.tokens, encoded.mask, self.pieces[batch.ids])
            encoded = replace(encoded, tokens=words[0], mask=words[1])
            reports = replace(reports, indices=find(reports, encoded.mask))
        kept = reports.found(encoded.mask).reported
        same = reports.same(kept)
        found = dict.fromkeys(LOSSES, encoded.images.patches.sum() * 0)
        wanted = set(LOSSES) - self.skipped
        if wanted & {"ira", "erl"}:
            images, whole_reports = self.wholes(encoded, reports)
            similar = heads.similarity(gathered(images), gathered(whole_reports), TEMPERATURE)
            found["ira"] = heads.contrast(similar, same)
            found["erl"] = relation_loss(similar, gathered(reports.tags[kept]), same)
        if "arsa" in wanted:
            areas, sentences = self.parts(encoded, reports)
            similar = heads.similarity(areas, sentences, TEMPERATURE)
            found["arsa"] = within_images(similar, reports.pair_images, pairs_alike(reports))
        if "irl" in wanted:
            found["irl"] = recognition_loss(self.recogniser(encoded.images)[kept], reports.tags[kept])
        return found

    def tag_decoder(self, model: Grounder) -> nn.Module:
        """Return the part that recognizes tags."""
        return Recogniser(model)

    def wholes(self, encoded: Encoded, reports: ReportBatch) -> tuple[Tensor, Tensor]:
        """Return (n, E) embeddings of the images with a report, and of their reports."""
        kept, texts = reports.found(encoded.mask).reported, (encoded.tokens, encoded.mask)
        features = text_means(*texts, reports.sentences, reports.report_of, len(reports.has_report))
        return self.image(heads.pooled(encoded.images)[kept]), self.report(features[kept])

    def parts(self, encoded: Encoded, reports: ReportBatch) -> tuple[Tensor, Tensor]:
        """Return (R, E) embeddings of the regions, and of the sentences about them.

        As published, features of patches and words have length 1 before they are averaged.
        """
        patches = functional.normalize(self.patch(encoded.images.patches.flatten(0, 1)), dim=1)
        maps = patches.unflatten(0, encoded.images.patches.shape[:2]).transpose(1, 2)
        maps = maps.unflatten(2, encoded.images.grid.shape[-2:])
        found = reports.found(encoded.mask)
        words = functional.normalize(self.word(encoded.tokens.flatten(0, 1)[found.words]), dim=1)
        sentences = means(words, found.owners, len(found.spoken))[found.spoken_of]
        areas = heads.roi_align(maps, reports.pair_boxes, reports.pair_images, sizes=found.pair_sizes)
        return areas, sentences


class ClsQueries(ASG):
    """The same with the published decoder of tags."""

    def tag_decoder(self, model: Grounder) -> nn.Module:
        """Return the part that recognizes tags."""
        return PublishedRecogniser(model)


def continuing(model: Grounder) -> Tensor:
    """Return (V,), True for tokens that continue a word; raise MedgroundError without such tokens."""
    found = torch.zeros(len(model.tokenizer), dtype=torch.bool)
    found[[n for token, n in model.tokenizer.get_vocab().items() if token.startswith(WORD_MARK)]] = True
    if not found.any():
        raise MedgroundError("--sum-word-pieces needs a WordPiece tokenizer, such as that of BERT")
    return found


class Recogniser(nn.Module):
    """40 queries over the patches of an image: a pre-norm decoder layer, 4 heads, FFN 1024, dropout 0.1.

    A query is the mean output of the text encoder over the tag's name before training, without the part that
    all names share; it is frozen. The patches of each place are normalized over the images.
    """

    def __init__(self, model: Grounder):
        super().__init__()
        width = model.config.width
        names = heads.apart(name_features(model, list(tags.NAMES)))
        self.register_buffer("names", names)
        self.to_queries = nn.Linear(names.shape[1], width)
        self.patches = heads.RegionNorm(patch_count(model), width)
        self.decoder = layers.decoder(1, width, 4, 1024, 0.1)
        self.decide = nn.Linear(width, len(names))

    def forward(self, images: EncodedImages) -> Tensor:
        """Return (B, 40) logits of the tags."""
        queries = self.to_queries(self.names).expand(len(images.patches), -1, -1)
        patches = self.patches(images.patches, images.visible).to(images.patches.dtype)
        found = self.decoder(queries, patches, memory_key_padding_mask=~images.visible)
        return heads.each_own(self.decide, found)


class PublishedRecogniser(nn.Module):
    """As published: 4 decoder layers, patches as they are, [CLS] of the names, one output for all tags."""

    def __init__(self, model: Grounder):
        super().__init__()
        width = model.config.width
        names = name_features(model, list(tags.NAMES), cls_only=True)
        self.register_buffer("names", names)
        self.to_queries = nn.Linear(names.shape[1], width)
        self.decoder = layers.decoder(4, width, 4, 1024, 0.1)
        self.decide = nn.Linear(width, 1)

    def forward(self, images: EncodedImages) -> Tensor:
        """Return (B, 40) logits of the tags."""
        queries = self.to_queries(self.names).expand(len(images.patches), -1, -1)
        found = self.decoder(queries, images.patches, memory_key_padding_mask=~images.visible)
        result: Tensor = self.decide(found)[..., 0]
        return result


@torch.no_grad()
def patch_count(model: Grounder) -> int:
    """Return P, the number of patches of an image of the model."""
    network, side = model.network, model.config.image_size
    modes = [(each, each.training) for each in network.modules()]
    blank = torch.zeros(1, 1, side, side, device=model.device)
    count = network.eval().encode_images(blank, blank + 1).patches.shape[1]
    for each, mode in modes:
        each.training = mode
    return count


@torch.no_grad()
def name_features(model: Grounder, names: list[str], cls_only: bool = False) -> Tensor:
    """Return (n, H) the mean output of the text encoder over the tokens of each name, or the first one."""
    encoder = model.network.text_encoder
    was = encoder.training
    ids, mask = (each.to(model.device) for each in model.tokenize(names))
    hidden = encoder.eval()(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    encoder.train(was)
    if cls_only:
        first: Tensor = hidden[:, 0]
        return first
    weights = mask[..., None].to(hidden.dtype)
    result: Tensor = (hidden * weights).sum(dim=1) / weights.sum(dim=1)
    return result


def pairs_alike(reports: ReportBatch) -> Tensor:
    """Return (R, R), True at i, j if sentence j is one of the sentences about the box of pair i.

    Boxes of an image that are equal are one region, and equal texts are one sentence.
    """
    images, boxes, texts = reports.pair_images, reports.pair_boxes, reports.pair_texts
    same_image = images[:, None] == images
    same_box = same_image & (boxes[:, None] == boxes).all(dim=2)
    same_text = same_image & (texts[:, None] == texts)
    return (same_box.float() @ same_text.float()) > 0


def within_images(similar: Tensor, images: Tensor, alike: Tensor | None = None) -> Tensor:
    """Return the mean of row plus column cross-entropy of (R, R) logits, among the pairs of each image.

    images: (R,) the image of each pair. alike: as `pairs_alike`; None if all boxes and texts differ. The only
    pair of an image has a loss of 0; so have no pairs.
    """
    own = similar.masked_fill(images[:, None] != images, -torch.inf)
    if alike is None:
        alike = torch.eye(len(own), dtype=torch.bool, device=own.device)
    return mean(heads.soft_cross_entropy(own, alike) + heads.soft_cross_entropy(own.T, alike.T))


def recognition_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of (n, 40) logits with labels 0 or 1; 0 without any."""
    known = labels >= 0
    costs = functional.binary_cross_entropy_with_logits(logits.float(), labels.clamp(min=0), reduction="none")
    return mean(costs.masked_fill(~known, 0), known.sum())


def relation_loss(similar: Tensor, labels: Tensor, same: Tensor | None = None) -> Tensor:
    """Return half of KL(q || p) + KL(p || q), the mean over rows and both directions; 0 for no rows.

    p: softmax of (n, n) `similar`, and of its transpose. q: 0.8 I + 0.2 cos(tags) + 1e-6 with rows normalized
    to sum 1. labels: (n, 40); uncertain counts as absent. The cosine of tags that are all 0 is 0.
    same: (n, n), True for equal reports, which share the weight of the pair itself.
    """
    if not len(similar):
        return similar.sum()
    present = functional.normalize(labels.clamp(min=0), dim=1)
    own = torch.eye(len(labels), dtype=labels.dtype, device=labels.device)
    if same is not None:
        own = functional.normalize(same.to(labels.dtype), p=1, dim=1)
    soft = functional.normalize(OWN * own + RELATED * (present @ present.T) + TINY, p=1, dim=1)
    both = []
    for logits in (similar, similar.T):
        predicted, target = logits.log_softmax(dim=1), soft.log()
        both.append(((soft - predicted.exp()) * (target - predicted)).sum(dim=1).mean())
    return torch.stack(both).mean() / 2
