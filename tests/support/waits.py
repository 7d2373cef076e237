"""Operations that would wait for a GPU, counted on a CPU."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {
    "_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "masked_select", "equal", "is_nonzero",
    "bincount", "multinomial",
}  # fmt: skip


class Waits(TorchDispatchMode):
    """Counts operations whose result a CPU needs before it can go on; also indexing by a mask."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        masks = name in ("index", "index_put", "index_put_") and any(
            each is not None and each.dtype == torch.bool for each in args[1]
        )
        if name in WAITING or masks:
            self.found.append(name)
        return function(*args, **(kwargs or {}))
