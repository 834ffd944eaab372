"""Networks as programs of torch: one step with its states as inputs and outputs, or a whole run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from spikewright._util.ranges import check_choice
from spikewright._util.text import aligned
from spikewright.interop.comparing import Compared, compared
from spikewright.interop.export_checks import check_exportable, check_rest
from spikewright.network import Network
from spikewright.network.wiring import Wiring
from spikewright.temporal import State

Steps = Literal["one", "unrolled"]


@dataclass(frozen=True)
class Exported:
    """A network as a program, and how far what it computes is from what the network computes.

    Attributes:
        program: The `torch.export.ExportedProgram`; `program.module()` can be called. With `steps="one"` it takes
            `(x, states)`, x of shape `[batch, *feature]` and states in a tuple, and returns `(output, states)`.
        steps: "one" for a program of one step, "unrolled" for one of a whole sequence.
        rest: States at the start of a sequence, zeros of the batch that was given, by name; the order is that of the
            program. A name is that of the layer and of its state, such as "1.membrane".
        batch: Number of samples that the program takes, at least 1; `None` if it takes any.
        rows: Differences to `Network.run` on the input that was given, by output. Default: ().
        path: File that was written. Default: None, none.
    """

    program: torch.export.ExportedProgram
    steps: Steps
    rest: Mapping[str, Tensor]
    batch: int | None
    rows: tuple[Compared, ...] = field(default=())
    path: Path | None = None

    @property
    def names(self) -> tuple[list[str], list[str]]:
        """Names of inputs and of outputs, in order; those of states stand on both sides."""
        return ["x", *self.rest], ["output", *(f"{name}.next" for name in self.rest)]

    def table(self) -> str:
        """Return the differences by output as aligned text."""
        head = ("output", "values", "differ", "largest difference")
        rows = [(row.name, str(row.values), str(row.differing), f"{row.largest:.3g}") for row in self.rows]
        return aligned([head, *rows])


def export(net: Network, x: Tensor, *, steps: Steps = "one") -> Exported:
    """Return a network as a program of `torch.export`, made of operators of torch alone, and compared on an input.

    Args:
        net: The network, in evaluation mode.
        x: Input, `[time, batch, *feature]`, on which program and network are compared. With `steps="unrolled"` the
            program takes as many steps.
        steps: "one" for a program of one step: x of shape `[batch, *feature]` and states to output and states. A
            sequence starts with `Exported.rest`. "unrolled" for a program from x `[time, batch, *feature]` to the
            outputs of all steps, which starts at rest. Default: "one".

    Returns:
        The program, with names and differences. It takes any number of samples, unless its batch is given.

    Raises:
        ConfigError: `steps` is unknown, `net` is no `Network`, or `x` holds several tensors.
        NetworkError: The network draws random numbers (noise, dropout in training mode, code of its own) or normalises
            by the statistics of a batch; it does something else at the first step of a sequence, which one program for
            all steps cannot; or torch cannot trace it, or the program computes something else.

    Warns:
        UserWarning: Some values differ by more than rounding, at most one in a hundred: a spike at the threshold.

    Examples:
        >>> import torch, spikewright as sw
        >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(3, 4), sw.LIF())).eval()
        >>> exported = sw.interop.export(net, torch.rand(5, 2, 3))
        >>> spikes, states = exported.program.module()(torch.rand(2, 3), tuple(exported.rest.values()))
        >>> spikes.shape, list(exported.rest)
        (torch.Size([2, 4]), ['1.membrane'])
    """
    check_choice("export", "steps", steps, ("one", "unrolled"))
    check_exportable(net, x, "export")
    with torch.no_grad():
        wiring = net.wiring(x)
        output, state = net.run(x)
        rest = {} if steps == "unrolled" else _at_rest(net.run(x[:1])[1])
        check_rest(net, x, rest)
        module, given = (_Run(net, wiring), (x,)) if steps == "unrolled" else (_Step(net, wiring, rest), (x[0], rest))
        program = _traced(module, given if steps == "unrolled" else (x[0], tuple(rest.values())))
    exported = Exported(program, steps, rest, _batch(program, 1 if steps == "unrolled" else 0))
    rows = compared("the program", outputs_of(exported, program.module(), x), expected(exported, output, state))
    return Exported(program, steps, rest, exported.batch, rows)


class _Step(nn.Module):
    """One step: `(x, states)` to `(output, states)`, all of them tensors `[batch, ...]`."""

    def __init__(self, net: Network, wiring: Wiring, rest: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.net, self._wiring, self._names = net, wiring, list(rest)

    def forward(self, x: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        run = self.net.start(x.unsqueeze(0), nested(self._names, states), wiring=self._wiring, count=False)
        output = run.advance(x.unsqueeze(0)).squeeze(0)
        after = flat(run.state)
        return output, tuple(after[name] for name in self._names)


class _Run(nn.Module):
    """A sequence from rest: x `[time, batch, *feature]` to the outputs of all steps."""

    def __init__(self, net: Network, wiring: Wiring) -> None:
        super().__init__()
        self.net, self._wiring = net, wiring

    def forward(self, x: Tensor) -> Tensor:
        return self.net.start(x, wiring=self._wiring, count=False).advance(x)


def flat(state: State) -> dict[str, Tensor]:
    """Return a state by names "layer.name", in their order."""
    return {f"{site}.{name}": value for site, own in state.items() for name, value in own.items()}


def nested(names: list[str], values: tuple[Tensor, ...]) -> State:
    """Return a state of a run from its parts by name."""
    state: State = {}
    for whole, value in zip(names, values, strict=True):
        site, _, name = whole.rpartition(".")
        state.setdefault(site, {})[name] = value
    return state


def _at_rest(state: State) -> dict[str, Tensor]:
    return {name: torch.zeros_like(value) for name, value in flat(state).items()}


def _traced(module: nn.Module, given: tuple[Any, ...]) -> torch.export.ExportedProgram:
    """Trace a module for any number of samples where that can be, from an input `[time, batch, ...]` or states."""
    axis = 1 if isinstance(module, _Run) else 0
    automatic = cast(Any, torch.export.Dim).AUTO
    shapes = tree_map(lambda tensor: {axis: automatic}, given)
    return torch.export.export(module.eval(), given, dynamic_shapes=shapes, strict=False)


def _batch(program: torch.export.ExportedProgram, axis: int) -> int | None:
    """Return the number of samples that a program takes; `None` for any."""
    signature: Any = program.graph_signature
    value: Any = next(node.meta["val"] for node in program.graph.nodes if node.name == signature.user_inputs[0])
    size = value.shape[axis]
    return size if isinstance(size, int) else None


def outputs_of(exported: Exported, program: Callable[..., Any], x: Tensor) -> dict[str, Tensor]:
    """Return what a program makes of a sequence: all outputs, and the states after the last step, by name.

    Args:
        exported: What is exported.
        program: Called as `exported.program.module()` is.
        x: The sequence, `[time, batch, *feature]`.
    """
    names = exported.names[1]
    with torch.no_grad():
        if exported.steps == "unrolled":
            return {names[0]: program(x)}
        states, outputs = tuple(exported.rest.values()), list[Tensor]()
        for step in x:
            output, states = program(step, states)
            outputs.append(output)
    return dict(zip(names, (torch.stack(outputs), *states), strict=True))


def expected(exported: Exported, output: Tensor, state: State) -> dict[str, Tensor]:
    """Return what the network makes of it, by the same names."""
    known = flat(state)
    return {"output": output, **{f"{name}.next": known[name] for name in exported.rest}}
