"""Grey values that do not depend on the machine. Letters: B films, S side."""

import torch
from torch import Tensor

LEVELS = 1024  # grey levels that are told apart


def equalise(films: Tensor) -> Tensor:
    """(B, 1, S, S) films in [0, 1] with their grey values spread evenly over [-1, 1]; black stays at -1.

    What exposure, window and detector curve did to a film is undone up to the order of its grey values, so
    that a network that has seen one machine's films reads another's. Pure black, the padding of a
    letterbox, is not counted.
    """
    level = (films.flatten(1) * (LEVELS - 1)).ceil().long().clamp(0, LEVELS - 1)  # (B, S * S)
    count = torch.zeros(len(films), LEVELS, device=films.device)
    count.scatter_add_(1, level, torch.ones_like(level, dtype=count.dtype))
    count[:, 0] = 0
    below = count.cumsum(1)
    share = (below - count / 2) / below[:, -1:].clamp(min=1)
    share[:, 0] = 0
    return (share.gather(1, level) * 2 - 1).view_as(films)
