"""The run of the other library's model on the user's input, with what every neuron received and sent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikewright.errors import ConversionError
from spikewright.interop.copies import clone, copied
from spikewright.interop.frames import Absent, Step, is_rest
from spikewright.interop.reading import Found


class Recorder(nn.Module):
    """A neuron of another library that keeps what it is given and what it sends.

    Args:
        found: The neuron.
        neuron: A copy of it.
        order: List to which its name is added at its first call.
    """

    def __init__(self, found: Found, neuron: nn.Module, order: list[str]) -> None:
        super().__init__()
        self.found, self.inner = (found,), neuron  # in a tuple, so that the original is no part of this module
        self.order = order
        self.holds, self.state = False, None
        self.returned: list[Tensor] = []
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []

    def forward(self, x: Tensor, *states: Any, **named: Any) -> Any:
        if not self.holds:
            y = self.inner(x, *states, **named)
        else:
            if not is_rest([*states, *named.values()]) and not any(each is self.state for each in states):
                raise ConversionError(
                    f"convert: the forward of the model gives '{self.found[0].name}' a state of its own making, but a "
                    "run holds the states of neurons, and they start at rest. Give step=lambda model, x: ..., which "
                    "calls neurons with their input alone."
                )
            y = self.inner(x, self.state) if self.found[0].library.name == "Norse" else self.inner(x)
            self.state = y[1] if isinstance(y, tuple) else None
        if not self.inputs:
            self.order.append(self.found[0].name)
        self.inputs.append(x.detach().clone())
        self.returned = _flat(y[1:]) if isinstance(y, tuple) else []
        self.outputs.append((y[0] if isinstance(y, tuple) else y).detach().clone())
        return y

    def reset_mem(self) -> Any:
        return Absent() if self.holds else self.inner.reset_mem()  # type: ignore[operator]

    init_leaky = init_lapicque = reset_mem

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)

    def clear(self) -> None:
        """Forget what was seen, and put the neuron back to rest."""
        self.inputs, self.outputs, self.state = [], [], None
        self.found[0].library.rest(self.inner)


@dataclass(frozen=True)
class Trace:
    """What a run of the other library's model was.

    Attributes:
        currents: Input of every neuron layer, `[time, batch, *feature]`, by name, in the order of their calls.
        spikes: Output of every neuron layer, likewise.
        outputs: Tensors that the model returned, without states of neurons: for every step, or for the sequence.
        form: How it was run: "step", "time", "batch" or "folded".
        joint: Names of batch norms that saw all steps together.
        framed: Names of linear layers that saw two axes, time and batch, in front.
        buffers: Buffers of the model after the run.
    """

    currents: dict[str, Tensor]
    spikes: dict[str, Tensor]
    outputs: list[list[Tensor]]
    form: str
    joint: frozenset[str]
    framed: frozenset[str]
    buffers: dict[str, Tensor]


class Reference:
    """A copy of the other library's model with recorders around its neurons.

    Args:
        model: The model; neither its states nor its buffers change.
        found: Its neurons.
        step: The user's function for one step, if there is one.
        dtype: To run in.
    """

    def __init__(self, model: nn.Module, found: list[Found], step: Step | None, dtype: torch.dtype) -> None:
        self.order: list[str] = []
        self.recorders = {each.name: Recorder(each, clone(each.module, share=True), self.order) for each in found}
        self.model = copied(model, {id(each.module): self.recorders[each.name] for each in found}, buffers=False)
        if dtype == torch.float64:
            self.model = _doubled(self.model)
            self.recorders = {r.found[0].name: r for r in self.model.modules() if isinstance(r, Recorder)}
            for recorder in self.recorders.values():
                recorder.order = self.order
        self.step, self.found = step, found

    def run(self, x: Tensor, training: bool = False) -> Trace:
        """Run the model on `x` `[time, batch, *feature]`, from rest.

        Raises:
            ConversionError: It cannot be run on it, or loops over time inside.
        """
        self.model.train(training)
        if training:
            _without_dropout(self.model)
        failures: list[str] = []
        for form in self._forms():
            try:
                return self._run(form, x)
            except _Loop as loop:
                failures.append(str(loop))
            except ConversionError:
                raise
            except Exception as error:
                failures.append(f"as {_SAID[form]}: {type(error).__name__}: {str(error).splitlines()[0][:200]}")
        raise ConversionError(
            f"convert could not run {type(self.model).__name__} on x {list(x.shape)} ([time, batch, *feature]):\n  "
            + "\n  ".join(failures)
            + "\nA model that loops over time inside its forward is converted as one step of it. Give step=lambda model, "
            "x: ..., a function of the model and the input of one step; or set its number of steps to 1 "
            "(such as model.num_steps = 1), so that its forward does one step."
        )

    def _forms(self) -> list[str]:
        kinds = {each.form() for each in self.found}
        if self.step is not None:
            return ["step"]
        if "folded" in kinds:
            return ["folded"]
        if "batch" in kinds:
            return ["batch"]
        return ["time"] if "time" in kinds else ["step", "time", "batch"]

    def _run(self, form: str, x: Tensor) -> Trace:
        steps, batch = x.shape[:2]
        calls, hooks = self._watch()
        self.order.clear()
        for recorder in self.recorders.values():
            recorder.clear()
            recorder.holds = form == "step"
            if hasattr(recorder.inner, "squeeze_forward"):
                recorder.inner.batch_size, recorder.inner.num_timesteps = batch, -1
        try:
            with torch.no_grad():
                output = self._steps(x) if form == "step" else [self._outputs(self.model(_LAYOUTS[form](x)))]
        finally:
            for hook in hooks:
                hook.remove()
        currents = {name: self._whole(recorder, recorder.inputs, form, x) for name, recorder in self._in_order()}
        spikes = {name: self._whole(recorder, recorder.outputs, form, x) for name, recorder in self._in_order()}
        norms = {name for name in calls if isinstance(self.model.get_submodule(name), _BatchNorm)}
        joint = frozenset(name for name in norms if len(calls[name]) == 1 < steps)
        lead = self._lead(form, steps, batch)
        framed = frozenset(n for n in calls.keys() - norms if all(len(s) > 2 and s[:2] == lead for s in calls[n]))
        buffers = {name: b.clone() for name, b in self.model.named_buffers() if ".inner." not in f".{name}"}
        return Trace(currents, spikes, output, form, joint, framed, buffers)

    def _steps(self, x: Tensor) -> list[list[Tensor]]:
        outputs: list[list[Tensor]] = []
        for t, step in enumerate(x):
            outputs.append(self._outputs(self.model(step) if self.step is None else self.step(self.model, step)))
            for name, recorder in self.recorders.items():
                if len(recorder.inputs) > t + 1:
                    raise _Loop(name, len(recorder.inputs) - t, self.model)
        return outputs

    def _outputs(self, y: Any) -> list[Tensor]:
        states = {id(state) for recorder in self.recorders.values() for state in recorder.returned}
        return [each for each in _flat(y) if id(each) not in states]

    def _in_order(self) -> list[tuple[str, Recorder]]:
        return [(name, self.recorders[name]) for name in self.order]

    def _whole(self, recorder: Recorder, parts: list[Tensor], form: str, x: Tensor) -> Tensor:
        steps, batch = x.shape[:2]
        own = recorder.found[0].form()
        if own == "step":
            whole = torch.stack(parts)
        else:
            whole = torch.cat([_TIME_FIRST[own](part, batch) for part in parts])
        if whole.shape[:2] != (steps, batch):
            raise _Loop(recorder.found[0].name, len(parts), self.model, list(whole.shape))
        return whole

    def _lead(self, form: str, steps: int, batch: int) -> tuple[int, int] | None:
        """Return the two axes in front of what layers see, if there are two."""
        own = {each.form() for each in self.found}
        if form == "step":
            return (1, batch) if "time" in own else (batch, 1) if "batch" in own else None
        return {"time": (steps, batch), "batch": (batch, steps)}.get(form)

    def _watch(self) -> tuple[dict[str, list[torch.Size]], list[Any]]:
        """Note the shapes that batch norms and linear layers are given."""
        calls: dict[str, list[torch.Size]] = {}

        def note(name: str) -> Callable[..., None]:
            return lambda module, given: calls.setdefault(name, []).append(given[0].shape)

        watched = [(n, m) for n, m in self.model.named_modules() if isinstance(m, _BatchNorm | nn.Linear)]
        return calls, [m.register_forward_pre_hook(note(name)) for name, m in watched]


def _flat(y: Any) -> list[Tensor]:
    """Return the tensors of a value in their order."""
    if isinstance(y, Tensor):
        return [y]
    parts = y.values() if isinstance(y, dict) else y if isinstance(y, tuple | list) else ()
    return [tensor for each in parts for tensor in _flat(each)]


class _Loop(Exception):
    def __init__(self, name: str, calls: int, model: nn.Module, shape: list[int] | None = None) -> None:
        if shape is not None:
            super().__init__(f"'{name}' saw {shape} in all, and not [time, batch, *feature] of x")
            return
        numbers = [key for key, value in vars(model).items() if type(value) is int and value == calls]
        also = f" (its {', '.join(numbers)} {'is' if len(numbers) == 1 else 'are'} {calls})" if numbers else ""
        super().__init__(
            f"as one step: '{name}' is called {calls} times by one call of forward{also}: it loops over time, or uses "
            "a neuron at several places"
        )


_SAID = {"step": "one step", "time": "[time, batch]", "batch": "[batch, time]", "folded": "[batch * time]"}
_LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "time": lambda x: x,
    "batch": lambda x: x.transpose(0, 1),
    "folded": lambda x: x.transpose(0, 1).flatten(0, 1),
}
_TIME_FIRST: dict[str, Callable[[Tensor, int], Tensor]] = {
    "time": lambda y, batch: y,
    "batch": lambda y, batch: y.transpose(0, 1),
    "folded": lambda y, batch: y.unflatten(0, (batch, -1)).transpose(0, 1),
}


def alone(found: Found, neuron: nn.Module, x: Tensor) -> Tensor:
    """Return the spikes of a neuron of another library for a current `[time, batch, *feature]`, from rest.

    Args:
        found: The neuron.
        neuron: A copy of it.
        x: Current.
    """
    found.library.rest(neuron)
    form: str = found.library.form(neuron)
    if form != "step":
        if form == "folded":
            neuron.batch_size, neuron.num_timesteps = x.shape[1], -1  # type: ignore[assignment]
        y = neuron(_LAYOUTS[form](x))
        return _TIME_FIRST[form](y[0] if isinstance(y, tuple) else y, x.shape[1])
    spikes, state = [], None
    for step in x:
        y = neuron(step, state) if found.library.name == "Norse" else neuron(step)
        state = y[1] if isinstance(y, tuple) else None
        spikes.append(y[0] if isinstance(y, tuple) else y)
    return torch.stack(spikes)


def _doubled(model: nn.Module) -> nn.Module:
    from copy import deepcopy

    return deepcopy(model).double()


def _without_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if "Dropout" in type(module).__name__:
            module.eval()
