"""Training steps on random data for benchmarks: the learner, a batch, FLOPs and the peak of the device."""

import argparse
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from medground import registry
from medground.anatomy import regions
from medground.models import config, encoders, grounder
from medground.objectives.learner import Learner, total

RESNET_50 = {"model_type": "resnet", "num_channels": 3, "out_features": ["stage4"]}
BERT_BASE = {"model_type": "bert", "vocab_size": 30_522}


def build(
    size: str,
    images: int,
    phrases: int,
    device: str,
    architecture: str = "transvg",
    image_size: int | None = None,
) -> tuple[Any, Any, Any]:
    """Return (learner, optimizer, batch) on the device; all images have the same phrases, as in AGP."""
    torch.manual_seed(0)
    texts, paper = texts_of(phrases), size == "paper"
    model = (
        published(texts, architecture) if paper else grounder.build(size, texts, architecture=architecture)
    )
    learner = Learner(model, ["agp"]).to(device).train()
    batch = random_batch(model, texts, images, image_size or model.config.image_size, device)
    optimizer = torch.optim.AdamW(learner.parameters(), 1e-5, fused=device == "cuda")
    return learner, optimizer, batch


def texts_of(count: int) -> list[str]:
    """Return names of regions as phrases."""
    return [regions.NAMES[n % len(regions.NAMES)] for n in range(count)]


def random_batch(
    model: grounder.Grounder, texts: list[str], images: int, side: int, device: str = "cpu"
) -> SimpleNamespace:
    """Return a batch of random images on the device; all have these phrases, with one box each."""
    phrases, count = len(texts), images * len(texts)
    ids, mask = model.tokenize(texts)
    pixels, inside = torch.rand(images, 1, side, side), torch.ones(images, 1, side, side)
    image_of = torch.arange(images).repeat_interleave(phrases)
    inputs = (pixels, inside, ids, mask, image_of, torch.arange(phrases).repeat(images))
    boxes = torch.rand(count, 4) * 0.3 + 0.3
    return batch_of(
        [each.to(device) for each in inputs], boxes.to(device), torch.arange(count, device=device)
    )


def published(texts: list[str], architecture: str, **shape: Any) -> grounder.Grounder:
    """Return the networks in AGP's sizes: ResNet-50 at stride 32 and BERT-base, random weights.

    shape: values of GrounderConfig in place of those of the size.
    """
    tokenizer = encoders.build_tokenizer(texts)
    vocabulary = {"vocab_size": max(BERT_BASE["vocab_size"], len(tokenizer))}
    pictures = encoders.build_image_encoder(dict(RESNET_50))
    words = encoders.build_text_encoder(BERT_BASE | vocabulary)
    plain = {"image_encoder": encoders.to_plain(pictures), "text_encoder": encoders.to_plain(words)}
    kind = registry.ARCHITECTURES[architecture].load()
    sizes = config.GrounderConfig(
        architecture=architecture, **plain, **config.SIZES["paper"] | kind.own_sizes | shape
    )
    return grounder.Grounder(sizes, kind(sizes, pictures, words), tokenizer)


def batch_of(inputs: list[Tensor], boxes: Tensor, box_of: Tensor) -> SimpleNamespace:
    """Return a batch with the fields that a learner reads."""
    pairs = {"image_of": inputs[4], "text_of": inputs[5]}
    return SimpleNamespace(inputs=lambda: inputs, **pairs, boxes=boxes, box_of=box_of, boxed=box_of.unique())


def learn(learner: Any, batches: list[Any], device: str, bf16: bool | None = None) -> None:
    """Compute the gradient of the mean loss of the batches, by default in bf16 on a GPU only."""
    learner.zero_grad(set_to_none=True)
    for batch in batches:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda" if bf16 is None else bf16):
            parts = learner(batch)
        (total(parts, learner.weights(0)) / len(batches)).backward()


def seconds(work: Callable[[], object], device: str) -> float:
    """Return the time of the work: CPU seconds, independent of other load, or wall seconds on a GPU."""
    if device != "cuda":
        began = time.process_time()
        work()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def median_seconds(work: Callable[[], object], device: str, rounds: int, unmeasured: int = 3) -> float:
    """Return the median time after some runs that choose kernels and take memory."""
    for _ in range(unmeasured):
        work()
    return statistics.median(seconds(work, device) for _ in range(rounds))


def flops(work: Callable[[], object]) -> float:
    """Return the floating-point operations of the work, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counted:
        work()
    return float(counted.get_total_flops())


def matrix_peak(device: str, side: int | None = None) -> float:
    """Return the operations per second of matrix products in the steps' precision, the best of ten."""
    kind = torch.bfloat16 if device == "cuda" else torch.float32
    side = side or (8192 if device == "cuda" else 1024)
    a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    for _ in range(3):
        a @ b
    return max(2 * side**3 / seconds(lambda: a @ b, device) for _ in range(10))


def device_of(given: argparse.Namespace) -> str:
    """Return "cuda" if there is a GPU and --device allows it, else "cpu"."""
    return "cuda" if given.device == "auto" and torch.cuda.is_available() else "cpu"
