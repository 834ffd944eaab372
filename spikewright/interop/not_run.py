"""Why a model could not be run step by step, and what to do about what was seen."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from inspect import Parameter, signature

import torch
from torch import Tensor, nn

from spikewright.errors import ConversionError


class NotRun(ConversionError):
    """A model could not be run on `x`.

    Args:
        text: The message.
        own_steps: True if it was seen that the forward makes steps of its own for each one that it is given.
    """

    def __init__(self, text: str, own_steps: bool = False) -> None:
        super().__init__(text)
        self.own_steps = own_steps


class Misfit(Exception):
    """What neurons saw in one call of forward is no step, or no sequence, of x."""


@dataclass
class Sights:
    """What was seen of the forward of a model, whichever way it was called.

    Attributes:
        loops: Number of calls of neurons in one call of forward from the same place, by the name of the layer.
        places: Number of places of the forward from which one neuron is called, by the name of the layer.
        steps: Number of steps that the forward makes for the one that it is given; 0 if that is not seen.
    """

    loops: dict[str, int] = field(default_factory=dict[str, int])
    places: dict[str, int] = field(default_factory=dict[str, int])
    steps: int = 0


def not_run(model: nn.Module, x: Tensor, failures: Sequence[str], sights: Sights, step: object) -> NotRun:
    """Return the error for a model that cannot be run on `x`, or not step by step.

    Args:
        model: The model.
        x: Input `[time, batch, *feature]`.
        failures: What went wrong, in every form in which it was called.
        sights: What was seen of its forward.
        step: The user's function for one step, if there is one.
    """
    return NotRun(
        f"convert could not run {type(model).__name__} step by step on x {list(x.shape)} ([time, batch, *feature]):\n  "
        + "\n  ".join(failures)
        + f"\n{advice(model, x, sights, step)}",
        sights.steps > 0,
    )


def advice(model: nn.Module, x: Tensor, sights: Sights, step: object) -> str:
    """Return what to do about a model that was not run: what was seen of it decides."""
    if sights.steps:
        names = numbers(model, sights.steps)
        one = f"Set model.{names[0]} = 1" if names else "Let the forward make one step"
        whole = "" if step is None else " and keep step=lambda model, x: model(x)"
        return (
            f"Given one step, its forward makes {sights.steps} of it. {one}{whole}; or give step=lambda model, x: "
            "model.layers(x.unsqueeze(0)).squeeze(0), with the layers that the forward calls on a sequence."
        )
    if sights.places:
        name, places = next(iter(sights.places.items()))
        return (
            f"'{name}' is used at {places} places of the forward, each with a state of its own, but one neuron has one "
            "state in a run. Use one neuron per place, such as two objects of its class."
        )
    if sights.loops:
        return looped(model, sights)
    missing = _missing(model) if step is None else []
    if missing:
        return (
            f"The forward of {type(model).__name__} takes {', '.join(missing)} beside its first input, but convert "
            f"gives it x alone. Give step=lambda model, x: model(x, ...), which gives it the rest."
        )
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if kinds and x.dtype not in kinds:
        kind = str(min(kinds, key=str)).removeprefix("torch.")
        cast = "x.double()" if kinds == {torch.float64} else "model.float()"
        return f"Its parameters are {kind}, and x is {str(x.dtype).removeprefix('torch.')}. Give {cast}."
    if step is not None:
        return "step is called with a copy of the model and the input of one step, x[t]. Give one that runs."
    return (
        "Give x on which the model runs, one step x[t] at a time or as a whole; or step=lambda model, x: ..., a "
        "function of the model and the input of one step that runs."
    )


def looped(model: nn.Module, sights: Sights) -> str:
    """Return what to do about a loop over time that was seen."""
    names = [name for calls in sights.loops.values() for name in numbers(model, calls)]
    also = (
        f"; or set its number of steps to 1 (model.{names[0]} = 1), so that its forward does one step" if names else ""
    )
    return (
        "A model that loops over time inside its forward is converted as one step of it. Give step=lambda model, x: "
        f"..., a function of the model and the input of one step, such as the body of the loop{also}."
    )


def numbers(model: nn.Module, value: int) -> list[str]:
    """Return the names of attributes of a model that are a number, such as its number of steps."""
    return [key for key, own in vars(model).items() if type(own) is int and own == value > 1]


def _missing(model: nn.Module) -> list[str]:
    """Return the names of the inputs that a forward needs beside the first."""
    try:
        given = list(signature(model.forward).parameters.values())[1:]
    except (TypeError, ValueError):
        return []
    named = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return [each.name for each in given if each.default is Parameter.empty and each.kind in named]
