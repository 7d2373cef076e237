"""The training of the example model on cached features of a frozen image encoder, for tools/train_example."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from example_data import CELLS, MOST, Batch, Nih, Pair, Source, moved, phrased, shares, stacked
from torch import Tensor
from torch.nn import functional

from medground import ops
from medground.models import encoders, grounder, lite
from medground.models.config import GrounderConfig
from medground.models.text_query import TextQuery

SIZE = 384


@dataclass(frozen=True)
class Material:
    """All training data: NIH images with their features, phantoms, boxes without images, an earlier model.

    offsets: what each finding adds to the logit of the score. encoder: the model type of the image encoder.
    """

    nih: Nih
    real: Source
    phantoms: Source
    free: list[Pair]
    start: Path
    offsets: list[float]
    encoder: str


class Texts:
    """The mean token of a text under the frozen text encoder of the earlier example model."""

    def __init__(self, start: grounder.Grounder):
        self.start, self.known = start, {}

    @torch.no_grad()
    def of(self, texts: list[str]) -> Tensor:
        """Return (M, D) mean hidden states of the texts."""
        new = sorted({each for each in texts if each not in self.known})
        if new:
            ids, mask = self.start.tokenize(new)
            hidden = self.start.network.text_encoder(
                input_ids=ids, attention_mask=mask.long()
            ).last_hidden_state
            means = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            self.known.update(zip(new, means, strict=True))
        return torch.stack([self.known[each] for each in texts])


class Trainer:
    """The network, its data and its optimizer. Every draw comes from one seed."""

    def __init__(self, material: Material, images: Sequence[str], steps: int, seed: int):
        torch.manual_seed(seed)
        self.rng, self.steps, self.free = random.Random(seed), steps, material.free
        self.nih, self.phantoms = nih, phantoms = material.real, material.phantoms
        images = [each for each in images if each in nih.rows]
        self.boxed = [e for e in images if any(p.box and p.finding for p in nih.pairs[e])]
        self.others = sorted(set(images) - set(self.boxed))
        self.synthetic = [each for each in phantoms.rows if phantoms.pairs.get(each)]
        self.mean = nih.features[[nih.rows[each][0] for each in images]].float().mean(0).half()
        self.start = grounder.load(material.start)
        self.texts, self.model = Texts(self.start), self._build(material.encoder)
        self.learned = [each for each in self.model.network.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(self.learned, lr=2.5e-3, weight_decay=0.05, betas=(0.9, 0.98))
        self.average = [each.detach().clone() for each in self.learned]

    def _build(self, encoder: str) -> grounder.Grounder:
        """Return a new network with the earlier example model's text encoder; both encoders are frozen."""
        config = alone(self.start.config, encoder)
        words = encoders.build_text_encoder(config.text_encoder)
        network = TextQuery(config, encoders.build_image_encoder(config.image_encoder), words)
        network.text_encoder.load_state_dict(self.start.network.text_encoder.state_dict())
        network.to_tokens.load_state_dict(self.start.network.to_tokens.state_dict())
        for part in (network.image_encoder, network.text_encoder):
            part.requires_grad_(False)
        return grounder.Grounder(config, network, self.start.tokenizer)

    def train(self) -> "Trainer":
        """Train, and leave the averaged weights in the network."""
        begun, parts = time.time(), []
        for step in range(self.steps):
            parts.append(self._step(step))
            if step % 100 == 99:
                click.echo(
                    f"{step + 1} {np.round(np.mean(parts, axis=0), 3)} {time.time() - begun:.0f} s", err=True
                )
                parts = []
        with torch.no_grad():
            for own, mean in zip(self.learned, self.average, strict=True):
                own.copy_(mean)
        self.model.network.eval()
        return self

    def _step(self, step: int) -> list[float]:
        network, batch = self.model.network.train(), self.batch()
        features = batch.features * (1 + 0.1 * torch.randn(*batch.features.shape[:2], 1, 1))
        image = network.encode_maps(features, inside_of(batch.visible))
        queries = (
            network.to_tokens(self.texts.of([text for row in batch.texts for text in row])) + network.kinds[0]
        )
        queries = queries.unflatten(0, (len(batch.texts), -1))
        losses = losses_of(batch, *network.predict(network.project(image.patches), batch.visible, queries))
        rate = min(1.0, (step + 1) / 30) * (0.5 + 0.485 * np.cos(np.pi * step / self.steps) + 0.015)
        self.optimizer.param_groups[0]["lr"] = 2.5e-3 * rate
        self.optimizer.zero_grad()
        sum(losses).backward()
        torch.nn.utils.clip_grad_norm_(self.learned, 1.0)
        self.optimizer.step()
        with torch.no_grad():
            for mean, own in zip(self.average, self.learned, strict=True):
                mean.lerp_(own, 1 - min(0.98, step / (step + 10)))
        return [each.item() for each in losses]

    def batch(self) -> Batch:
        """Return 5 NIH images with boxes, 3 with labels, 5 phantoms, and twice the mean image."""
        drawn = [(self.nih, self.rng.choice(self.boxed)) for _ in range(5)]
        drawn += [(self.nih, self.rng.choice(self.others)) for _ in range(3)]
        drawn += [(self.phantoms, self.rng.choice(self.synthetic)) for _ in range(5)]
        items = [self._item(*each) for each in drawn]
        full = torch.ones(CELLS**2, dtype=torch.bool)
        for _ in range(2):
            some = [(phrased(p, False, self.rng), p.box, None, 0.3) for p in self.rng.sample(self.free, MOST)]
            items.append((self.mean, full, some))
        return stacked(items)

    def _item(self, source: Source, name: str) -> tuple[Tensor, Tensor, list[Any]]:
        """Return the features, mask and phrases of a random view: present ones, absent ones, regions."""
        row = self.rng.choice(source.rows[name])
        facts, pairs = source.facts[row], source.pairs[name]
        kinds = [[p for p in pairs if p.finding is not None or p.weight >= 0.5]]
        regions = [p for p in pairs if p.finding is None and p.weight < 0.5]
        kinds = [[p for p in kinds[0] if p.present], [p for p in kinds[0] if not p.present], regions]
        chosen = [p for kind in kinds for p in self.rng.sample(kind, min(MOST // 3, len(kind)))]
        phrases = []
        for pair in chosen:
            box = moved(pair.box, facts["aff"]) if pair.box else None
            if box or not pair.box:
                phrases.append((phrased(pair, facts["flip"], self.rng), box, pair.present, pair.weight))
        return source.features[row], torch.tensor(facts["vis"]).bool(), phrases


def alone(config: GrounderConfig, encoder: str) -> GrounderConfig:
    """Return the config of one network over this image encoder, without the parts that are fitted afterwards.

    The start may be the shipped model, which has them.
    """
    fitted = {"findings": None, "score_offsets": None, "placed": False, "familiar": 0, "members": 1}
    sizes = {**TextQuery.own_sizes, "equalise": False, "grey": lite.GREY, "image_size": SIZE}
    return replace(
        config,
        architecture="text-query",
        image_encoder={"model_type": encoder},
        sides_apart=True,
        **fitted,
        **sizes,
    )


def inside_of(visible: Tensor) -> Tensor:
    """Return (B, 1, h, w) masks of (B, h w) visible patches."""
    return visible.float().view(-1, 1, CELLS, CELLS)


def losses_of(batch: Batch, found: Tensor, present: Tensor, heat: Tensor) -> list[Tensor]:
    """Return the losses of boxes, presence and patches."""
    corners, weights = ops.cxcywh_to_xyxy(found), batch.weights * batch.boxed
    each = 5 * (corners - batch.boxes).abs().sum(2) + 2 * (
        1 - ops.generalized_iou(corners, batch.boxes, 0.01)
    )
    likelihood = functional.binary_cross_entropy_with_logits(present, batch.present, reduction="none")
    inside = shares(batch.boxes) * batch.boxed[:, :, None]
    patches = functional.binary_cross_entropy_with_logits(heat, inside, reduction="none").mean(2)
    denied = batch.known * (1 - batch.present)
    by_patch = torch.where(batch.boxed, batch.weights, denied)
    return [
        (each * weights).sum() / weights.sum().clamp(min=1),
        2 * (likelihood * batch.known).sum() / batch.known.sum().clamp(min=1),
        4 * (patches * by_patch).sum() / by_patch.sum().clamp(min=1),
    ]
