"""Copies of a model that share its parameters, with other modules in place of its neurons."""

import warnings
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from torch import Tensor, nn

from spikewright.errors import ConversionError
from spikewright.interop.leaves import shared_leaves


def copied(model: nn.Module, replaced: Mapping[int, nn.Module], buffers: bool, parameters: bool = True) -> nn.Module:
    """Return a copy of a model with other modules in some places.

    Args:
        model: The model; it is not changed.
        replaced: Module that takes the place of one of the model's, by the identity of the latter.
        buffers: True shares its buffers; False copies them.
        parameters: True shares its parameters, the same objects; False copies them.

    Raises:
        ConversionError: The model cannot be copied.
    """
    memo: dict[int, Any] = {id(p): p for p in model.parameters()} if parameters else {}
    memo |= {id(p): p for p in shared_leaves(model)}
    if buffers:
        memo |= {id(b): b for b in model.buffers()}
    for module in model.modules():
        for value in vars(module).values():  # weights that hooks compute, which copies cannot take
            if isinstance(value, Tensor) and value.grad_fn is not None:
                memo[id(value)] = value.detach()
    memo |= replaced
    try:
        return deepcopy(model, memo)
    except Exception as error:
        raise ConversionError(
            f"convert works on a copy of the model, and {type(model).__name__} could not be copied: "
            f"{type(error).__name__}: {error}. Keep what cannot be copied out of its modules."
        ) from error


def clone(module: nn.Module, share: bool = False) -> nn.Module:
    """Return a copy of a neuron of another library, attribute by attribute, whatever its class says about copies.

    Args:
        module: The neuron.
        share: True keeps its parameters, the same objects.
    """
    fresh = type(module).__new__(type(module))
    memo: dict[int, Any] = {id(module): fresh}
    if share:
        memo |= {id(p): p for p in module.parameters()}
    for value in [*vars(module).values(), *module._buffers.values()]:
        if isinstance(value, Tensor) and value.grad_fn is not None:  # a state that was left over
            memo[id(value)] = value.detach()
    memories: Any = vars(module).get("_memories", {})
    memo |= {id(v): v.detach() for v in memories.values() if isinstance(v, Tensor) and v.grad_fn is not None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fresh.__dict__.update(deepcopy(vars(module), memo))
    return fresh
