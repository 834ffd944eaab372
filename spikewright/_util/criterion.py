"""Calls of a criterion, with checks of it and of its result, and clear errors where it refuses its targets."""

import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from spikewright._util.arguments import check_tensor, shown
from spikewright._util.returned import described
from spikewright._util.text import kind_of
from spikewright.errors import ConfigError, InputError, ShapeError

Criterion = Callable[[Tensor, Tensor], Tensor]

_REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError, NotImplementedError)
"""Errors by which torch refuses targets; subclasses (out of memory, errors of the user) pass on."""


def check_criterion(owner: str, criterion: object) -> None:
    """Raise `ConfigError` unless a criterion can be called with outputs and targets."""
    if isinstance(criterion, type):
        raise ConfigError(
            f"{owner} was given the class {criterion.__name__}, which would be called with outputs and targets. Give "
            f"an instance: {owner}({criterion.__name__}())."
        )
    if not callable(criterion):
        raise ConfigError(
            f"{owner}({shown(criterion)}) was given {kind_of(criterion)}, but a criterion is called with outputs "
            f"and targets and returns one number. Give one, such as {owner}(nn.CrossEntropyLoss())."
        )


def check_given(output: object, y: object) -> None:
    """Raise `ShapeError` unless outputs and targets are tensors with values."""
    check_tensor("output", output, "[time, batch, *feature]")
    check_tensor("y", y, "[batch, ...], with the target of every sample")


def check_sequence(output: Tensor, y: Tensor) -> None:
    """Raise `ShapeError` unless outputs are a sequence `[time, batch, *feature]`, and both are tensors with values."""
    check_given(output, y)
    if output.dim() < 2 or not len(output):
        raise ShapeError(
            f"A loss was given outputs {_described(output)}, but it reads those of a sequence, [time, batch, "
            "*feature], of one step or more. Give those of one step as output.unsqueeze(0)."
        )


def applied(loss: object, criterion: Criterion, output: Tensor, y: Tensor) -> Tensor:
    """Return the value of a criterion for outputs and targets.

    Args:
        loss: Loss that the criterion belongs to, for messages.
        criterion: Criterion to call.
        output: Output of one step, or the mean of several, `[batch, *feature]`.
        y: Targets, `[batch, ...]`.

    Raises:
        ShapeError: The criterion refuses the shape or the type of the targets.
        InputError: It refuses their values.
        ConfigError: It does not return one number.
    """
    try:
        value = criterion(output, y)
    except _REFUSALS as error:
        if type(error) not in _REFUSALS:
            raise
        check_given(output, y)
        kind = InputError if type(error) is IndexError else ShapeError
        raise kind(
            f"{loss} calls its criterion with outputs {_described(output)} and targets {_described(y)}, which it "
            f"refuses: {_sentence(error)} {_advice(criterion, output, y)}"
        ) from error
    if isinstance(value, Tensor) and value.numel() == 1:
        return value if value.dim() == 0 else value.reshape(())
    advice = "Give the criterion reduction='mean'." if hasattr(criterion, "reduction") else "Return the mean."
    raise ConfigError(
        f"{loss} needs one number for outputs {_described(output)} and targets {_described(y)}, but its criterion "
        f"returned {described(value)}, which cannot be differentiated as a loss. {advice}"
    )


def _described(x: Tensor) -> str:
    return f"{list(x.shape)} ({str(x.dtype).removeprefix('torch.')})"


def _sentence(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    return text if text.endswith(".") else f"{text}."


def _advice(criterion: Criterion, output: Tensor, y: Tensor) -> str:
    """Return advice: other forms of the targets that the criterion takes, if there are any."""
    taken = [form for form, other in _forms(output.detach(), y) if _takes(criterion, output.detach(), other)]
    if taken:
        return f"It takes {' or '.join(taken)}."
    return "Give it the targets it is made for, or another criterion."


def _forms(output: Tensor, y: Tensor) -> Iterator[tuple[str, Tensor]]:
    kind, one_number = output.dtype, y.dim() > 1 and y.shape[-1] == 1
    if y.is_complex():
        return
    if y.dtype != torch.int64:
        yield "y.long()", y.long()
    if one_number:
        yield "y.squeeze(-1)", y.squeeze(-1)
        if y.dtype != torch.int64:
            yield "y.squeeze(-1).long()", y.squeeze(-1).long()
    if y.dim() < output.dim():
        yield f"y.unsqueeze(-1).to({kind})", y.unsqueeze(-1).to(kind)
    if y.dtype != kind:
        yield f"y.to({kind})", y.to(kind)
    if y.dim() > 1 and not one_number:
        yield "y.argmax(-1)", y.argmax(-1)
    if y.dim() > 1 and y.shape[1] == len(output):
        yield "the targets of one step, for which there is PerStep(criterion, timed=True)", y[0]
    if y.dtype == torch.int64 and y.dim() == 1 and output.dim() == 2 and bool(((y >= 0) & (y < output.shape[1])).all()):
        yield f"F.one_hot(y, {output.shape[1]}).to({kind})", F.one_hot(y, output.shape[1]).to(kind)


@torch.no_grad()
def _takes(criterion: Criterion, output: Tensor, y: Tensor) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # about broadcast shapes
        try:
            value = criterion(output, y)
        except Exception:
            return False
    return isinstance(value, Tensor) and value.numel() == 1
