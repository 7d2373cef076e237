"""A writer of answers: a causal decoder over the patches of the image, with the question as prefix.

It is the writer of `objectives.writer`, and starts from the one in the model folder if there is one. Its text
is question, separator, answer, separator; the loss is that of the tokens after the first separator. The
predicted answer is decoded greedily.

Letters: N questions, R rows, P patches, D width, L tokens, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from medground.answers.normal import normal
from medground.downstream import decoded_text, decoding
from medground.downstream.answer_inputs import Inputs, Progress
from medground.downstream.decoding import Decoding
from medground.models.grounder import Grounder
from medground.objectives import saved_heads
from medground.objectives.report_batch import LONGEST
from medground.objectives.writer import Writer, Writes
from medground.records import Question

MOST_TOKENS = 32  # of an answer, with the separator


def new(model: Grounder, folder: Path) -> Writer:
    """Return a writer with the weights of the one in the model folder, or with random ones."""
    writer = Writer(model)
    if saved_heads.names_of(folder):
        for each in saved_heads.load(folder, model).values():
            if isinstance(each, Writes):
                writer.load_state_dict(each.writer.state_dict())
                break
    return writer.to(model.device)


@dataclass
class WriterTask:
    """The training of a writer."""

    inputs: Inputs
    head: Writer
    train: Sequence[Question]
    val: Sequence[Question]

    def loss(self, rows: Sequence[int]) -> Tensor:
        """Return the mean loss of the answer tokens of some training questions."""
        return self._loss([self.train[row] for row in rows])

    def _loss(self, questions: Sequence[Question]) -> Tensor:
        texts = [_whole(self.inputs, each) for each in questions]
        ids = pad_sequence([torch.tensor(prefix + answer) for prefix, answer in texts], batch_first=True)
        wanted = ids.new_full(ids.shape, -100)  # ignored by cross_entropy
        for row, (prefix, answer) in enumerate(texts):
            wanted[row, len(prefix) - 1 : len(prefix) + len(answer) - 1] = torch.tensor(answer)
        device = self.inputs.model.device
        logits = self.head.logits(ids.to(device), *self.inputs.visual_tokens(self.inputs.batch(questions)))
        return functional.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten().to(device))

    def validate(self, batch_size: int) -> tuple[float, float]:
        """Return the accuracy on the validation questions, and the mean loss of their batches."""
        parts = [self.val[start : start + batch_size] for start in range(0, len(self.val), batch_size)]
        loss = sum(float(self._loss(part)) for part in parts) / len(parts)
        found = written(self.inputs, self.head, self.val, batch_size)
        right = [
            normal(text) == normal(each.answer or "") for text, each in zip(found, self.val, strict=True)
        ]
        return sum(right) / len(right), loss


def _prefix(inputs: Inputs, text: str) -> list[int]:
    """Return the token ids of a question with its first and its last special token."""
    most = min(inputs.text_tokens, LONGEST - MOST_TOKENS)
    ids: list[int] = inputs.model.tokenizer(text, truncation=True, max_length=most)["input_ids"]
    return ids


def _whole(inputs: Inputs, question: Question) -> tuple[list[int], list[int]]:
    """Return the token ids of a question, and of its answer in normal form with its separator."""
    answer = inputs.model.tokenizer(normal(question.answer or ""))["input_ids"][1:]
    cut = [*answer[: MOST_TOKENS - 1], answer[-1]] if len(answer) > MOST_TOKENS else answer
    return _prefix(inputs, question.text), cut


@torch.inference_mode()
def written(
    inputs: Inputs,
    writer: Writer,
    questions: Sequence[Question],
    batch_size: int,
    progress: Progress = lambda starts, label, total: starts,
) -> list[str]:
    """Return the text that the writer gives for each question; both modules are in evaluation mode."""
    found: list[str] = []
    starts = range(0, len(questions), batch_size)
    for start in progress(starts, "batches of questions", len(starts)):
        found += _batch(inputs, writer, questions[start : start + batch_size])
    return found


def _batch(inputs: Inputs, writer: Writer, questions: Sequence[Question]) -> list[str]:
    memory, hidden = inputs.visual_tokens(inputs.batch(questions))
    tokenizer, device = inputs.model.tokenizer, inputs.model.device
    prefixes = [torch.tensor(_prefix(inputs, each.text)) for each in questions]
    end = int(prefixes[0][-1])

    def step(tokens: Tensor, sources: Tensor) -> Tensor:
        """Return (R, V) logits after the prefixes of the sources and (R, L) tokens; the first is `end`."""
        own = [prefixes[source] for source in sources.tolist()]
        rows = [torch.cat([prefix, each[1:]]) for prefix, each in zip(own, tokens.cpu(), strict=True)]
        ids = pad_sequence(rows, batch_first=True).to(device)
        last = torch.tensor([len(row) - 1 for row in rows], device=device)
        logits = writer.logits(ids, memory[sources], hidden[sources])
        return logits[torch.arange(len(rows), device=device), last]

    never = {tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.mask_token_id} - {None, end}
    how = Decoding(start=end, end=end, most=MOST_TOKENS, never=frozenset(never))
    texts = decoding.decode(step, len(questions), how, device)
    return [decoded_text.words_of(tokenizer, ids) for ids, _ in texts]
