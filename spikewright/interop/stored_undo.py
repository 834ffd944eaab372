"""All of a change to a module, or nothing of it."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def all_or_nothing(module: nn.Module, changes: Iterable[Callable[[], object]]) -> None:
    """Make changes to a module; if one of them fails, take back those before it and raise its error.

    Parameters and buffers stay the same objects.  Needs as much memory again as these have.

    Args:
        module: The module.
        changes: Functions that change values and attributes of the module or of modules in it.
    """
    held = [(part, _attributes(part)) for part in module.modules()]
    values = [(tensor, tensor.detach().clone()) for tensor in _tensors(module)]
    try:
        for change in changes:
            change()
    except BaseException:
        for part, attributes in held:
            part.__dict__.clear()
            part.__dict__.update(attributes)
        for tensor, value in values:
            tensor.copy_(value)
        raise


def _attributes(part: nn.Module) -> dict[str, Any]:
    """Return the attributes of a module; dictionaries and sets, such as that of its buffers, as copies."""
    return {
        name: value.copy() if isinstance(value, dict | set) else value
        for name, value in vars(part).items()  # pyright: ignore[reportUnknownVariableType]
    }


def _tensors(module: nn.Module) -> list[Tensor]:
    found = [*module.parameters(), *module.buffers()]
    return [tensor for tensor in found if not nn.parameter.is_lazy(tensor) and not tensor.is_meta]
