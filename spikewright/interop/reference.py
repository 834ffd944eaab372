"""The run of the other library's model on the user's input, with what every neuron received and sent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikewright.errors import ConversionError
from spikewright.interop.copies import clone, copied
from spikewright.interop.frames import Step
from spikewright.interop.mapping import Mapping as Neuron
from spikewright.interop.reading import Found
from spikewright.interop.recorder import LAYOUTS, TIME_FIRST, Recorder, flat


@dataclass(frozen=True)
class Trace:
    """What a run of the other library's model was.

    Attributes:
        currents: Input of every neuron layer, `[time, batch, *feature]`, by name, in the order of their calls.
        spikes: Output of every neuron layer, likewise.
        potentials: Potentials beside spikes of the layers of which the model uses them, likewise.
        inputs: Input of every layer as the model gave it; of a recurrent layer it is a part of the current.
        outputs: Tensors that the model returned, without states of neurons: for every step, or for the sequence.
        form: How it was run: "step", "time", "batch" or "folded".
        joint: Names of batch norms that saw all steps together.
        framed: Names of linear layers that saw two axes, time and batch, in front.
        buffers: Buffers of the model after the run.
        failures: Why it did not run in other forms, which were tried before.
    """

    currents: dict[str, Tensor]
    spikes: dict[str, Tensor]
    potentials: dict[str, Tensor]
    inputs: dict[str, Tensor]
    outputs: list[list[Tensor]]
    form: str
    joint: frozenset[str]
    framed: frozenset[str]
    buffers: dict[str, Tensor]
    failures: tuple[str, ...]


def with_recurrence(trace: Trace, mappings: Mapping[str, Neuron]) -> Trace:
    """Return a run with the whole currents of recurrent layers, which add what comes back from their own spikes.

    Args:
        trace: The run.
        mappings: What each neuron is here, by name.
    """
    with torch.no_grad():
        currents = {n: mappings[n].current(x, trace.spikes[n]).detach() for n, x in trace.inputs.items()}
    return replace(trace, currents=currents)


class Reference:
    """A copy of the other library's model with recorders around its neurons.

    Args:
        model: The model; neither its states nor its buffers change.
        found: Its neurons.
        step: The user's function for one step, if there is one.
        mappings: What each is here, by name.
    """

    def __init__(self, model: nn.Module, found: list[Found], step: Step | None, mappings: Mapping[str, Neuron]) -> None:
        self.order: list[str] = []
        self.recorders = {
            each.name: Recorder(each, clone(each.module, share=True), self.order, mappings[each.name]) for each in found
        }
        self.model = copied(model, {id(each.module): self.recorders[each.name] for each in found}, buffers=False)
        self.step, self.found = step, found

    def run(self, x: Tensor, training: bool = False, graph: bool = False) -> Trace:
        """Run the model on `x` `[time, batch, *feature]`, from rest; `graph` leaves its outputs a graph.

        Raises:
            ConversionError: It cannot be run on it, or loops over time inside.
        """
        self.model.train(training)
        if training:
            _without_dropout(self.model)
        failures: list[str] = []
        for form in self._forms():
            try:
                return replace(self._run(form, x, graph), failures=tuple(failures))
            except _Loop as loop:
                failures.append(str(loop))
            except ConversionError:
                raise
            except Exception as error:
                failures.append(f"as {_SAID[form]}: {type(error).__name__}: {str(error).splitlines()[0][:200]}")
        raise not_run(self.model, x, failures)

    def _forms(self) -> list[str]:
        kinds = {each.form() for each in self.found}
        if self.step is not None:
            return ["step"]
        if "folded" in kinds:
            return ["folded"]
        if "batch" in kinds:
            return ["batch"]
        return ["time"] if "time" in kinds else ["step", "time", "batch"]

    def _run(self, form: str, x: Tensor, graph: bool) -> Trace:
        steps, batch = x.shape[:2]
        calls, hooks = self._watch()
        self.order.clear()
        for recorder in self.recorders.values():
            recorder.clear()
            recorder.holds = form == "step"
            inner: Any = recorder.inner
            if hasattr(inner, "squeeze_forward"):
                inner.batch_size, inner.num_timesteps = batch, -1
        try:
            with torch.set_grad_enabled(graph):
                output = self._steps(x) if form == "step" else [self._outputs(self.model(LAYOUTS[form](x)))]
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
        own = {name: r.potentials for name, r in self._in_order() if r.potentials}
        potentials = {name: self._whole(self.recorders[name], parts, form, x) for name, parts in own.items()}
        return Trace(currents, spikes, potentials, currents, output, form, joint, framed, buffers, ())

    def _steps(self, x: Tensor) -> list[list[Tensor]]:
        outputs: list[list[Tensor]] = []
        for t, step in enumerate(x):
            outputs.append(self._outputs(self.model(step) if self.step is None else self.step(self.model, step)))
            for name, recorder in self.recorders.items():
                if len(recorder.inputs) > t + 1:
                    raise _Loop(name, len(recorder.inputs) - t, self.model)
        return outputs

    def _outputs(self, y: Any) -> list[Tensor]:
        told = [r for r in self.recorders.values() if self.step is None or not r.mapping.returns]
        return flat(y, frozenset(id(state) for recorder in told for state in recorder.returned)) or flat(y)

    def _in_order(self) -> list[tuple[str, Recorder]]:
        return [(name, self.recorders[name]) for name in self.order]

    def _whole(self, recorder: Recorder, parts: list[Tensor], form: str, x: Tensor) -> Tensor:
        steps, batch = x.shape[:2]
        own = recorder.found[0].form()
        if own == "step":
            whole = torch.stack(parts)
        else:
            whole = torch.cat([TIME_FIRST[own](part, batch) for part in parts])
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


def _without_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if "Dropout" in type(module).__name__:
            module.eval()


def not_run(model: nn.Module, x: Tensor, failures: Sequence[str]) -> ConversionError:
    """Return the error for a model that cannot be run on `x`, or not step by step."""
    return ConversionError(
        f"convert could not run {type(model).__name__} step by step on x {list(x.shape)} ([time, batch, *feature]):\n  "
        + "\n  ".join(failures)
        + "\nA model that loops over time inside its forward is converted as one step of it. Give step=lambda "
        "model, x: ..., a function of the model and the input of one step; or set its number of steps to 1 "
        "(such as model.num_steps = 1), so that its forward does one step."
    )
