"""What a method that somebody wrote for the library returned, and what is said if it is not what it has to be."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from spikewright._util.text import kind_of
from spikewright.errors import ExtensionError


def wrong(owner: object, method: str, asked: str, answer: object, advice: str = "") -> ExtensionError:
    """Return the error for a method that returned something else than it has to.

    Args:
        owner: Whose method it is.
        method: Its name.
        asked: What it has to return, in words.
        answer: What it returned.
        advice: What to do, in a sentence; may be empty.
    """
    kind = owner if isinstance(owner, type) else type(owner)
    name = f"{kind.__name__}.{method}"
    return ExtensionError(f"{name} has to return {asked}, but it returned {described(answer)}. {advice}".rstrip())


def described(answer: object) -> str:
    """Return what something is, in a few words: tensors by shape and type."""
    if isinstance(answer, Tensor):
        return f"a tensor {list(answer.shape)} of {str(answer.dtype).removeprefix('torch.')}"
    if isinstance(answer, tuple) and len(answer) <= 4:
        return f"({', '.join(map(described, answer))}{',' if len(answer) == 1 else ''})"
    if isinstance(answer, Mapping) and len(answer) <= 4:
        return f"{{{', '.join(f'{key!r}: {described(value)}' for key, value in answer.items())}}}"
    return kind_of(answer)


def is_carried(state: Any, batch: int) -> bool:
    """Whether something can be carried from chunk to chunk: tensors by name, batch first or a single number."""
    return isinstance(state, dict) and all(
        isinstance(v, Tensor) and (v.dim() == 0 or v.shape[0] == batch) for v in state.values()
    )


def check_scan(module: object, answer: Any, chunk: Tensor) -> tuple[Tensor, Any]:
    """Return what `scan` returned for a chunk `[time, batch, *feature]`: an output and a state.

    Raises:
        ExtensionError: It is not that.
    """
    steps, batch = chunk.shape[:2]
    if isinstance(answer, tuple) and len(answer) == 2:
        y, state = answer
        if isinstance(y, Tensor) and y.shape[:2] == (steps, batch) and (state is None or is_carried(state, batch)):
            return y, state
    raise wrong(
        module,
        "scan",
        f"its output and its state, a tensor [time={steps}, batch={batch}, *feature] and a dictionary {{name: tensor "
        f"[batch={batch}, ...]}}, for an input {list(chunk.shape)}",
        answer,
        "Return both, such as `return torch.stack(spikes), {'potential': v}`, with {} where nothing is carried.",
    )
