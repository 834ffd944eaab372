"""Which modules of a model are neurons of another library, and what each of them is here."""

from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.errors import ConversionError
from spikewright.interop import norse, sinabs, snntorch, spikingjelly
from spikewright.interop.mapping import Library, Mapping, Refused

LIBRARIES = (spikingjelly.LIBRARY, snntorch.LIBRARY, sinabs.LIBRARY, norse.LIBRARY)
_PLAIN = frozenset(vars(nn.Module()))
_HARMLESS = frozenset({"__init__", "__repr__", "extra_repr", "__doc__", "__module__", "__qualname__"})
"""What a subclass may define without being another neuron."""
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class Found:
    """A neuron of another library in a model.

    Attributes:
        name: Its name, as in `named_modules()`.
        module: The neuron.
        library: Of which library.
        kind: Name of its class in the library.
        potential: True if the model uses the potential that it returns beside its spikes.
        dropped: True if the model returns states of it that are not returned here.
    """

    name: str
    module: nn.Module
    library: Library
    kind: str
    potential: bool = False
    dropped: bool = False

    def read(self, module: nn.Module, dtype: torch.dtype) -> Mapping:
        """Return what it is here, from the neuron or a copy of it in another dtype."""
        mapping = self.library.neurons[self.kind](module, dtype)
        return mapping.emitting() if self.potential else mapping

    def form(self) -> str:
        """Return the form of its input: "step", "time", "batch" or "folded"."""
        return self.library.form(self.module)


def library_of(kind: type) -> Library | None:
    """Return the library that defines a class."""
    for library in LIBRARIES:
        if any(kind.__module__ == each or kind.__module__.startswith(f"{each}.") for each in library.packages):
            return library
    return None


def find_neurons(model: nn.Module, x: Tensor) -> list[Found]:
    """Return the neurons of other libraries in a model, all of them checked.

    Raises:
        ConversionError: There are none, or one has no exact equal here.
    """
    found: list[Found] = []
    refused: list[tuple[str, str, str, Refused]] = []
    for name, module in model.named_modules():
        try:
            one = _found(name, module)
            if any(not outer or name.startswith(f"{outer}.") for outer, *_ in refused):
                continue
            around = [each for each in found if not each.name or name.startswith(f"{each.name}.")]
            if around:
                if one is not None and around[-1].kind in around[-1].library.containers:
                    _check(one)
                elif one is not None:
                    raise Refused(
                        "it is inside a recurrent neuron, and here what comes back from the spikes of neurons passes "
                        "through layers without neurons",
                        "Use nn.Linear or a convolution",
                    )
                continue
            if one is not None:
                _check(one)
                _check_trained(one, one.read(module, x.dtype))
                found.append(one)
        except Refused as error:
            refused.append((name, _shown(module), _owner(module), error))
    if refused:
        raise refusal(*refused[0], others=[name for name, *_ in refused[1:]])
    if not found:
        raise ConversionError(
            f"convert was given {type(model).__name__}, in which there is no neuron of SpikingJelly, snnTorch, sinabs "
            "or Norse, so that there is nothing to convert. A model with neurons of this library is run by "
            "spikewright.Network(model)."
        )
    return found


def alike(twins: list[Found], found: list[Found]) -> list[Found]:
    """Return the neurons of a copy of a model, with what the model makes of the states of its own."""
    by_name = {each.name: each for each in found}
    return [replace(twin, potential=by_name[twin.name].potential, dropped=by_name[twin.name].dropped) for twin in twins]


def refusal(name: str, shown: str, owner: str, error: Refused, others: list[str] | None = None) -> ConversionError:
    """Return the error for a module that has no exact equal here."""
    where = f"layer '{name}'" if name else "the model itself"
    also = f" Also refused: {', '.join(map(repr, others))}." if others else ""
    return ConversionError(
        f"convert was given a model of which {where} is {shown} of {owner}: {error.why}. {error.instead}.{also}"
    )


def _found(name: str, module: nn.Module) -> Found | None:
    for base in type(module).__mro__:
        library = library_of(base)
        if library is None:
            continue
        if base.__name__ in library.missing:
            raise Refused(*library.missing[base.__name__])
        if base.__name__ in library.neurons:
            return Found(name, module, library, base.__name__)
        if base.__name__ in library.bases and library.plain(module, None) is None:
            raise Refused(
                "what it does from step to step is not known here",
                "Known are " + ", ".join(sorted(library.neurons)) + "; replace it by one of them",
            )
    return None


def _check(found: Found) -> None:
    """Raise `Refused` if a neuron is not what its class says, or if something would be lost with it."""
    module, library = found.module, found.library
    for kind in type(module).__mro__:
        if library_of(kind) is library:
            break
        own = {name for name, value in vars(kind).items() if name not in _HARMLESS and not _is_note(name, value)}
        if own:
            raise Refused(
                f"it is a subclass of {found.kind} that defines {', '.join(sorted(own))}, so that its equations may be "
                "other ones",
                f"Use {found.kind} itself, or write the neuron as a subclass of spikewright.Neuron",
            )
    if has_hooks(module):
        raise Refused(
            "hooks are registered on it, which would be lost with it",
            "Remove them; observers of Network.run see the input and the spikes of every neuron",
        )
    if hasattr(module, "parametrizations"):
        raise Refused(
            "its constants are parametrized, and here they are constants",
            "Remove the parametrization (torch.nn.utils.parametrize.remove_parametrizations)",
        )
    for name in vars(module):
        if name in _PLAIN or name in library.known:
            continue
        if name == "training" or not _matters(vars(module)[name]):
            continue
        over = callable(getattr(type(module), name, None))
        raise Refused(
            f"its {name} was replaced on the object, so that its equations may be other ones"
            if over
            else f"it has an attribute {name}={_brief(vars(module)[name])}, of which nothing is known here",
            f"Use {found.kind} as the library makes it",
        )
    for name in (*module._parameters, *module._buffers):
        if name not in library.known:
            raise Refused(f"it has a tensor {name}, of which nothing is known here", f"Use {found.kind} as it is")


def _check_trained(found: Found, mapping: Mapping) -> None:
    """Raise `Refused` if something of a neuron is trained that is a constant here."""
    known = {each.theirs for each in mapping.trained}
    shared = {id(p) for p in mapping.placed.parameters()}
    for name, parameter in found.module.named_parameters():
        if parameter.requires_grad and name not in known and id(parameter) not in shared:
            raise Refused(
                f"its {name} is trained, and there is nothing of the kind here",
                f"Keep it, {name}.requires_grad_(False)",
            )


def has_hooks(module: nn.Module) -> bool:
    """True if hooks are registered on a module."""
    return any(getattr(module, hooks, None) for hooks in _HOOKS)


def _is_note(name: str, value: object) -> bool:
    return name.startswith("__") and not isinstance(value, FunctionType | property)


def _matters(value: Any) -> bool:
    return not (value is None or value is False or (isinstance(value, int | float) and value == 0) or value == "")


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) < 40 else f"<{type(value).__name__}>"


def _shown(module: nn.Module) -> str:
    return type(module).__name__


def _owner(module: nn.Module) -> str:
    for base in type(module).__mro__:
        library = library_of(base)
        if library is not None:
            return library.name
    return type(module).__module__
