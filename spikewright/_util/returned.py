"""Checks of results of methods that users write, and the error for wrong ones."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from spikewright._util.text import kind_of
from spikewright.errors import ExtensionError


def wrong(owner: object, method: str, asked: str, answer: object, advice: str = "") -> ExtensionError:
    """Return the error for a method that returned something else than required.

    Args:
        owner: Object or class of the method.
        method: Name of the method.
        asked: Description of the required result.
        answer: The result.
        advice: Sentence with advice; may be empty.
    """
    kind = owner if isinstance(owner, type) else type(owner)
    name = f"{kind.__name__}.{method}"
    return ExtensionError(f"{name} has to return {asked}, but it returned {described(answer)}. {advice}".rstrip())


def described(answer: object) -> str:
    """Return a short description of a value; tensors by shape and dtype."""
    if isinstance(answer, Tensor):
        return f"a tensor {list(answer.shape)} of {str(answer.dtype).removeprefix('torch.')}"
    if isinstance(answer, tuple) and len(answer) <= 4:
        return f"({', '.join(map(described, answer))}{',' if len(answer) == 1 else ''})"
    if isinstance(answer, Mapping) and len(answer) <= 4:
        return f"{{{', '.join(f'{key!r}: {described(value)}' for key, value in answer.items())}}}"
    return kind_of(answer)


def is_carried(state: Any, batch: int) -> bool:
    """True for a state: tensors by name, batch first or without axes."""
    return isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(v, Tensor) and (v.dim() == 0 or v.shape[0] == batch)
        for name, v in state.items()
    )


def check_scan(module: object, answer: Any, chunk: Tensor) -> tuple[Tensor, Any]:
    """Check the result of `scan` for a chunk `[time, batch, *feature]`, an output and a state, and return it.

    The output of neurons with a `potential` may be a pair of spikes and potential.

    Raises:
        ExtensionError: It is something else.
    """
    steps, batch = chunk.shape[:2]
    if isinstance(answer, tuple) and len(answer) == 2:
        y, state = answer
        pair = getattr(module, "potential", None) is not None and isinstance(y, tuple) and len(y) == 2
        parts: tuple[Any, ...] = y if pair else (y,)
        fits = all(isinstance(part, Tensor) and part.shape[:2] == (steps, batch) for part in parts)
        if fits and (state is None or is_carried(state, batch)):
            return answer
    raise wrong(
        module,
        "scan",
        f"its output and its state, a tensor [time={steps}, batch={batch}, *feature] and a dictionary {{name: tensor "
        f"[batch={batch}, ...]}}, for an input {list(chunk.shape)}",
        answer,
        "Return both, such as `return torch.stack(spikes), {'potential': v}`, with {} where nothing is carried.",
    )
