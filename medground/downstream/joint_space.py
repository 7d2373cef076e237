"""The space that ASG's heads map images and reports to, and zero-shot classification in it.

The score of a class is the cosine of the image with the phrase of the class, minus that with "no" before it.
Letters: B images, S side of the square, U texts, E embedding, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from medground.datasets import class_boxes
from medground.downstream.fits import Linear
from medground.errors import MedgroundError
from medground.models.grounder import Grounder
from medground.objectives import heads, saved_heads
from medground.objectives.asg import ASG
from medground.objectives.report_batch import means, words_of


@dataclass(frozen=True)
class JointSpace:
    """A model with ASG's heads."""

    model: Grounder
    asg: ASG

    def images(self, images: Tensor, inside: Tensor) -> Tensor:
        """Return (B, E) rows of length 1 for (B, 1, S, S) images and their insides."""
        encoded = self.model.network.encode_images(images, inside)
        return functional.normalize(self.asg.image(heads.pooled(encoded)), dim=1)

    @torch.inference_mode()
    def texts(self, texts: list[str]) -> Tensor:
        """Return (U, E) rows of length 1 for texts, each as a report of one sentence."""
        ids, mask = (each.to(self.model.device) for each in self.model.tokenize(texts))
        network = self.model.network
        tokens = network.encode_texts(ids, mask)[..., : network.width]
        if self.asg.pieces is not None:
            tokens, mask = heads.whole_words(tokens, mask, self.asg.pieces[ids])
        rows = torch.arange(len(texts), device=tokens.device)
        features = means(*words_of(tokens, mask, rows, rows), count=len(texts))
        return functional.normalize(self.asg.report(features), dim=1).cpu()


def load(folder: Path, model: Grounder) -> JointSpace:
    """Return the joint space of a model folder; raise MedgroundError if it has no heads of ASG."""
    objectives = saved_heads.load(folder, model)
    name = next((each for each in ("asg", "asg-cls") if each in objectives), None)
    if name is None:
        raise MedgroundError(f"{folder}: --layer joint needs heads of asg; it has {', '.join(objectives)}")
    head = objectives[name]
    assert isinstance(head, ASG)
    return JointSpace(model, head)


def zero_shot(classes: Sequence[str], texts: Callable[[list[str]], Tensor]) -> Linear:
    """Return the scores of the classes as a linear function of image features, without any training image.

    The phrase of a class is that of `datasets/class_phrases.toml`, else its name in lower case.
    """
    table = class_boxes.read_templates(class_boxes.TABLE)
    phrases = [class_boxes.phrase_of(name, table) for name in classes]
    both = texts([*phrases, *(f"no {each}" for each in phrases)])
    present, absent = both.double().numpy().reshape(2, len(classes), -1)
    return Linear((present - absent).T, present[:, 0] * 0)
