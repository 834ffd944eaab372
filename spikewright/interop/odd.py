"""What is odd about a model, found before or while its original runs, so that it is called by its name."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parameter import is_lazy

from spikewright.errors import ConversionError
from spikewright.interop.leaves import attributes, is_leaf
from spikewright.interop.reading import library_of
from spikewright.temporal import Temporal


def check_model(model: nn.Module) -> list[str]:
    """Return remarks about what a model holds.

    Raises:
        ConversionError: It cannot be converted, whatever its input.
    """
    remarks: list[str] = []
    registered = {id(m) for m in model.modules()}
    for name, module in model.named_modules():
        where = f"layer '{name}'" if name else "the model itself"
        _check_module(where, module)
        for key, value in attributes(module):
            full = f"{name}.{key}".lstrip(".")
            if isinstance(value, nn.Module) and id(value) not in registered:
                if any(library_of(base) for m in value.modules() for base in type(m).__mro__):
                    raise ConversionError(
                        f"convert: '{full}' is {type(value).__name__} in a list or a dictionary of Python, where "
                        "PyTorch does not see it: model.modules() is without it, and its neurons are not found. Use "
                        "nn.ModuleList or nn.ModuleDict."
                    )
                if any(True for _ in value.parameters()):
                    remarks.append(
                        f"'{full}' ({type(value).__name__}) is shared with the model, but no part of "
                        "module.parameters(), as in the model: it is in a list or a dictionary of Python"
                    )
            elif isinstance(value, Tensor) and not isinstance(value, nn.Parameter) and is_leaf(value):
                remarks.append(
                    f"'{full}' is a tensor with requires_grad that is no parameter: it is shared with the model, but "
                    "no part of module.parameters(), as in the model"
                )
    return remarks


def _check_module(where: str, module: nn.Module) -> None:
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise ConversionError(
            f"convert: {where} is {type(module).__name__}, which copies or hooks the module inside. Give the module "
            "inside, wrapped.module, and wrap it after convert."
        )
    if type(module).__name__ == "OptimizedModule" and hasattr(module, "_orig_mod"):
        raise ConversionError(
            f"convert: {where} is a compiled module, whose code is fixed, so that neurons in it cannot be replaced. "
            "Give the module that was compiled, compiled._orig_mod."
        )
    if isinstance(module, Temporal):
        raise ConversionError(
            f"convert: {where} is {type(module).__name__} of spikewright, which runs in a spikewright.Network alone, "
            "so that the original cannot be run to compare with. Convert the model without it, and put it behind: "
            "nn.Sequential(converted.module, ...)."
        )
    tensors = (*module._parameters.values(), *module._buffers.values())
    if any(is_lazy(each) for each in tensors if each is not None):
        raise ConversionError(
            f"convert: {where} is {type(module).__name__}, whose parameters have no shape yet, and a run would make "
            "them in the model, which is not changed here. Run the model once, model(x[0]), and convert it then."
        )


class Untouched:
    """Context in which copies of a model run: none of them may call a module of the model itself.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self.names = {id(m): name for name, m in model.named_modules()}
        self.hook: Any = None

    def __enter__(self) -> None:
        def check(module: nn.Module, given: object) -> None:
            if id(module) in self.names:
                name = self.names[id(module)]
                raise ConversionError(
                    f"convert runs copies of the model, but a function calls {repr(name) if name else 'the model'} of "
                    "the model itself, which it holds on to (such as self.f = lambda x: self.lif(x), or a step that "
                    "uses model of outside and not its first argument). Make it a method, def f(self, x), or use the "
                    "argument."
                )

        self.hook = register_module_forward_pre_hook(check)

    def __exit__(self, *error: object) -> None:
        self.hook.remove()


def check_not_random(first: dict[str, Tensor], again: dict[str, Tensor], mode: str = "evaluation mode") -> None:
    """Raise if two runs of the same model on the same input differ by more than rounding.

    Args:
        first: Currents and outputs of one run, by what they are.
        again: Those of the other.
        mode: In which mode it ran, for the message.

    Raises:
        ConversionError: They differ.
    """
    for name, one in first.items():
        other = again[name]
        if one.shape == other.shape and not _apart(one, other):
            continue
        raise ConversionError(
            f"convert: the model was run twice on the same x in {mode}, from rest, and {name} differs: its forward "
            "draws random numbers (an encoder that draws spikes, a dropout that is always on, noise), so that nothing "
            "can be compared. Draw them outside and give x as drawn, or in training mode only (if self.training)."
        )


def _apart(one: Tensor, other: Tensor) -> bool:
    size = float(one.detach().abs().max()) if one.numel() else 0.0
    return bool(((one - other).detach().abs() > 1e-6 * size).any()) if size == size else False


def check_finite(name: str, x: Tensor, otherwise: Callable[[str], Exception] = ConversionError) -> None:
    """Raise if a tensor holds NaN or infinite values, of which no comparison says anything."""
    wrong = ~torch.isfinite(x)
    if bool(wrong.any()):
        place = torch.nonzero(wrong)[0].tolist()
        raise otherwise(
            f"convert: {name} is {x[tuple(place)].item()} at {place} ([time, batch, *feature]; {int(wrong.sum())} of "
            f"{x.numel()} values are not finite), of which no comparison says anything. Give finite values."
        )
