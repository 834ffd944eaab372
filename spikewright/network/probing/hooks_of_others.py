"""Foreign hooks on modules and parameters: those that torch itself has not added."""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as of_all
from torch.nn.modules.lazy import LazyModuleMixin

FORWARD = ("_forward_hooks", "_forward_pre_hooks")
BACKWARD = ("_backward_hooks", "_backward_pre_hooks")
HOOKS = FORWARD + BACKWARD
"""Attributes of a module that hold its hooks."""
_OF_GRADIENTS = ("_backward_hooks", "_post_accumulate_grad_hooks")
_GLOBAL = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks", "_global_backward_pre_hooks")


def hooks_on(module: nn.Module, kinds: Iterable[str] = HOOKS) -> Iterator[object]:
    """Yield the foreign hooks on a module, which may change inputs, outputs or their gradients."""
    for kind in () if isinstance(module, LazyModuleMixin) else kinds:
        yield from (hook for hook in module.__dict__.get(kind, {}).values() if not of_torch(hook))


def hooks_on_all() -> Iterator[object]:
    """Yield the foreign hooks on all modules of the process."""
    for kind in _GLOBAL:
        yield from (hook for hook in getattr(of_all, kind).values() if not of_torch(hook))


def hooks_on_gradient(parameter: Tensor) -> Iterator[object]:
    """Yield the hooks on the gradient of a parameter."""
    for kind in _OF_GRADIENTS:
        yield from (getattr(parameter, kind, None) or {}).values()


def take_off(parameter: Tensor, kept: Collection[object]) -> None:
    """Remove the hooks on the gradient of a parameter, except those in `kept`."""
    for kind in _OF_GRADIENTS:
        hooks = getattr(parameter, kind, None) or {}
        for key in [key for key, hook in hooks.items() if not any(hook is other for other in kept)]:
            del hooks[key]


def unhook(module: nn.Module) -> None:
    """Remove the foreign hooks of a module and its submodules, in new dictionaries."""
    for m in module.modules():
        for kind in () if isinstance(m, LazyModuleMixin) else HOOKS:
            kept = {key: hook for key, hook in m.__dict__.get(kind, {}).items() if of_torch(hook)}
            m.__dict__[kind] = OrderedDict(kept)


def of_torch(hook: Any) -> bool:
    """True if a hook is one of torch, which computes a weight or sets the size of a lazy layer."""
    owner = getattr(hook, "__self__", hook)
    kind = owner.__class__ if not isinstance(owner, type) else owner
    named = getattr(hook, "__module__", None) if callable(hook) and hasattr(hook, "__qualname__") else kind.__module__
    return str(named or kind.__module__).partition(".")[0] == "torch"
