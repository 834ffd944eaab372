"""Modules that a NIR graph becomes: the graph itself, and what torch and this library have no layer for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikewright.layers import Feedback
from spikewright.temporal import SiteState, Temporal


@dataclass(frozen=True)
class Step:
    """One operation of a graph: the sum of earlier values, passed through a module.

    Attributes:
        module: Name of the module; None returns the sum itself.
        inputs: Numbers of the values to add: 0 is the input of the graph, k the value of step k.
    """

    module: str | None
    inputs: tuple[int, ...]


class NIRModule(nn.Module):
    """A NIR graph as a module of one step; its layers have the names of the nodes.

    Args:
        modules: Layers, by name.
        program: Operations in the order of their computation; the value of the last one is the output.

    Attributes:
        program: The operations.
        metadata: What the file says beside the graph.
    """

    def __init__(self, modules: Mapping[str, nn.Module], program: Sequence[Step]) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.program = tuple(program)
        self.metadata: dict[str, object] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of one step.

        Args:
            x: Input.  Tensor `[rows, *feature]`.
        """
        values = [x]
        for step in self.program:
            total = values[step.inputs[0]]
            for place in step.inputs[1:]:
                total = total + values[place]
            values.append(total if step.module is None else self.get_submodule(step.module)(total))
        return values[-1]


class FeedbackFromStart(Feedback):
    r"""Feedback connection that acts at the first step too, as if nothing had been sent before.

    .. math::
        y[t] = x[t] + f(s[t-1]), \qquad s[-1] = 0,

    so that a bias of the transform is added at every step.

    Args:
        transform: Map from the output of the source to the shape of `x`.  An `nn.Module`.
        source: Module whose output is sent back.  An `nn.Module`, or its name.
        shape: Shape of the output of the source, `[*feature]`.
    """

    def __init__(self, transform: nn.Module, source: nn.Module | str, shape: Sequence[int]) -> None:
        super().__init__(transform, source)
        self.shape = tuple(shape)

    def scan(self, x: Tensor, state: SiteState, through_time: bool) -> tuple[Tensor, SiteState]:
        if "last" not in state:
            silent = x.new_zeros(x.shape[1], *self.shape)
            return x + self.transform(silent).unflatten(0, x.shape[:2]), state
        return super().scan(x, state, through_time)


class Elementwise(nn.Module):
    r"""Multiplication by constants, one for every feature: :math:`y_i = c_i x_i`.

    Args:
        factors: The constants.  Tensor `[*feature]`.
    """

    factors: Tensor

    def __init__(self, factors: Tensor) -> None:
        super().__init__()
        self.register_buffer("factors", factors)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product.

        Args:
            x: Input.  Tensor `[rows, *feature]`.
        """
        return x * self.factors


class SumPool2d(nn.AvgPool2d):
    """Sum of windows: the average times the area of a window; padding counts as zeros.

    Args:
        kernel_size: Height and width of a window, both at least 1.
        stride: Vertical and horizontal distance of windows, both at least 1.
        padding: Zeros above and below, and left and right, both at least 0.
    """

    def __init__(self, kernel_size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> None:
        super().__init__(kernel_size, stride, padding, divisor_override=1)


def zeros_through(module: NIRModule, shape: Sequence[int], expected: Mapping[str, Sequence[int]]) -> list[str]:
    """Return where shapes do not fit: each layer runs on zeros, and layers with a memory keep the shape.

    Args:
        module: The graph.
        shape: Shape of its input, `[*feature]`.
        expected: Shapes `[*feature]` that nodes declare for their input, by name.
    """
    values = [torch.zeros(1, *shape, dtype=_dtype_of(module))]
    for step in module.program:
        summands = [values[place] for place in step.inputs]
        name = step.module or "output"
        sizes = [list(value.shape[1:]) for value in summands]
        if any(size != sizes[0] for size in sizes):
            return [f"'{name}' adds up {' and '.join(map(str, sizes))}"]
        declared = expected.get(name)
        if declared is not None and list(declared) != sizes[0]:
            return [f"'{name}' is declared for {list(declared)} and receives {sizes[0]}"]
        if step.module is None or isinstance(layer := module.get_submodule(step.module), Temporal):
            values.append(summands[0])
            continue
        try:
            with torch.no_grad():
                values.append(layer(summands[0]))
        except (RuntimeError, ValueError, IndexError) as error:
            return [f"'{name}' ({layer}) does not take {sizes[0]}: {str(error).partition(chr(10))[0]}"]
    return []


def _dtype_of(module: nn.Module) -> torch.dtype:
    return next((p.dtype for p in module.parameters()), torch.get_default_dtype())
