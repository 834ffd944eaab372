"""The memory of tensors."""

import torch
from torch import Tensor


def memory_of(x: Tensor) -> tuple[torch.UntypedStorage, int] | None:
    """Return the storage of a tensor and its address, which is 0 without memory; `None` for a sparse tensor."""
    try:
        storage = x.untyped_storage()
        return storage, storage.data_ptr()
    except (NotImplementedError, RuntimeError):
        return None
