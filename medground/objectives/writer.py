"""The writer of reports: a causal decoder over the visual tokens of an image, and an objective with only it.

lm   language modeling of the report from the patches of its image, as in R2Gen without its memory.

With `--freeze image-encoder` the objective trains a writer on the frozen encoder of any method. So encoders
can be compared by the reports that equal decoders write, as in BenchX. Input and output share the
embeddings of the text encoder; its other layers are not used. The embeddings are scaled to a root mean
square of 1: those of BERT have one of about 0.02, with which logits stay near 0 and training takes many
times as long.

Letters: B images, P visual tokens, D width, L tokens of a report, V vocabulary, n images with a report.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medground.models import layers
from medground.models.config import GrounderConfig
from medground.models.grounder import Grounder
from medground.models.stepwise import Stepwise
from medground.objectives.distributed import mean
from medground.objectives.objective import Encoded, Objective
from medground.objectives.report_batch import LONGEST, ReportBatch, scored

LAYERS = 2  # of the decoder


def decoder(config: GrounderConfig) -> nn.Module:
    """Return a small decoder of the model's width."""
    return layers.decoder(LAYERS, config.width, config.heads, config.feed_forward, config.dropout)


class Writes(Objective):
    """An objective with a writer of reports; `medground write` uses both."""

    writer: "Writer"

    def visual_tokens(self, encoded: Encoded, reports: ReportBatch) -> tuple[Tensor, Tensor]:
        """Return (n, P, D) visual tokens of the images with a report, and their mask, True if ignored.

        encoded: with the tokens of `texts`, to which `reports.always` leads. Nothing of the reports is used
        but their regions.
        """
        raise NotImplementedError


class ReportWriter(Writes):
    """The objective `writer`: its visual tokens are the patches, and it needs only the ids of texts."""

    uses_tokens = False

    def __init__(self, model: Grounder):
        super().__init__(model)
        self.writer, self.width = Writer(model), model.config.width

    def forward(self, encoded: Encoded, batch: Any) -> dict[str, Tensor]:
        """Return the loss of the batch's reports; images without a report do not count."""
        reports: ReportBatch = batch.reports
        found = reports.found(encoded.mask)
        memory, hidden = self.visual_tokens(encoded, reports)
        ids = batch.ids[found.rows, found.places]
        return {"lm": mean(self.writer(ids, found.valid, memory, hidden, found.scored))}

    def visual_tokens(self, encoded: Encoded, reports: ReportBatch) -> tuple[Tensor, Tensor]:
        """Return (n, P, D) patches of the images with a report, and their mask, True for padding."""
        patches = encoded.images.patches[..., : self.width]  # text-query appends positions
        kept = reports.found(encoded.mask).reported
        return patches[kept], ~encoded.images.visible[kept]


class Writer(nn.Module):
    """A causal decoder over the visual tokens; input and output share the text encoder's embeddings."""

    def __init__(self, model: Grounder):
        super().__init__()
        config = model.config
        embeddings: nn.Embedding = model.network.text_encoder.get_input_embeddings()  # type: ignore[operator]
        self.words = [embeddings]  # in a list, as they belong to the text encoder
        hidden = self.words[0].weight.shape[1]
        self.enter, self.leave = nn.Linear(hidden, config.width), nn.Linear(config.width, hidden)
        self.frequencies = nn.Parameter(torch.zeros(len(self.words[0].weight)))
        self.positions = nn.Parameter(torch.randn(LONGEST, config.width) * 0.02)
        self.decoder = decoder(config)

    def forward(
        self, ids: Tensor, valid: Tensor, memory: Tensor, hidden: Tensor, scored_at: Tensor | None = None
    ) -> Tensor:
        """Return (k,) the negative log-likelihood of each report token after the first, and of the end.

        ids, valid: (n, L), padded at the end. The end token is the first token of the report. scored_at: (k,)
        as returned by `report_batch.scored`; to find it, None, waits for a GPU.
        """
        if not ids.numel():
            return memory.sum(dim=(1, 2))[:0]
        lengths = valid.sum(dim=1, keepdim=True)
        given = ids.masked_fill(~valid, 0)
        wanted = torch.cat([given[:, 1:], given[:, :1]], dim=1)
        last = torch.arange(ids.shape[1], device=ids.device) == lengths - 1
        wanted = torch.where(last, given[:, :1], wanted)
        at = scored(valid, LONGEST) if scored_at is None else scored_at
        logits = self.logits(given, memory, hidden).flatten(0, 1)[at]
        return functional.cross_entropy(logits.float(), wanted.flatten()[at], reduction="none")

    def logits(self, ids: Tensor, memory: Tensor, hidden: Tensor) -> Tensor:
        """Return (n, L, V) logits of the token after each of (n, L) ids; attention is causal."""
        length = ids.shape[1]
        tokens = self.read(ids) + self.positions[:length]
        later = torch.ones(length, length, dtype=torch.bool, device=ids.device).triu(1)
        # torch would compare the mask with its own causal one, and wait for the result
        outputs = self.decoder(
            tokens, memory, tgt_mask=later, memory_key_padding_mask=hidden, tgt_is_causal=False
        )
        return self.scores(outputs)

    def read(self, ids: Tensor) -> Tensor:
        """Return the (..., D) inputs of the decoder for these tokens, without positions."""
        result: Tensor = self.enter(functional.embedding(ids, self._table()))
        return result

    def scores(self, outputs: Tensor) -> Tensor:
        """Return (..., V) logits for (..., D) outputs of the decoder."""
        table = self._table()
        found: Tensor = functional.linear(self.leave(outputs), table) * float(table.shape[1]) ** -0.5
        return found + self.frequencies

    def _table(self) -> Tensor:
        """Return the (V, H) embeddings, with a root mean square of 1."""
        weight = self.words[0].weight
        table: Tensor = weight / weight.detach().square().mean().sqrt().clamp(min=1e-8)
        return table


class WriterSteps:
    """The next-token logits of a writer for texts that grow by one token with each call.

    Calls have the form of `downstream.decoding.Step`. memory, hidden: those of the sources.
    """

    def __init__(self, writer: Writer, memory: Tensor, hidden: Tensor):
        self._writer, self._state = writer, Stepwise(writer.decoder, memory, hidden)
        self._row_of: dict[tuple[int, ...], int] = {}

    def __call__(self, tokens: Tensor, sources: Tensor) -> Tensor:
        """Return (R, V) logits after (R, L) tokens, each one longer than a row of the last call."""
        rows = [(source, *text) for source, text in zip(sources.tolist(), tokens.tolist(), strict=True)]
        first = tokens.shape[1] == 1
        parents = torch.tensor(
            [0 if first else self._row_of[each[:-1]] for each in rows], device=tokens.device
        )
        self._row_of = {each: n for n, each in enumerate(rows)}
        words, position = self._writer.read(tokens[:, -1]), self._writer.positions[tokens.shape[1] - 1]
        return self._writer.scores(self._state.extend(words + position, parents, sources))
