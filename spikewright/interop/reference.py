"""The run of the other library's model on the user's input, with what every neuron received and sent."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikewright.errors import ConversionError
from spikewright.interop.copies import clone, copied
from spikewright.interop.frames import Step
from spikewright.interop.mapping import Mapping as Neuron
from spikewright.interop.not_run import Misfit, Sights, not_run, numbers
from spikewright.interop.reading import Found
from spikewright.interop.recorder import LAYOUTS, TIME_FIRST, Recorder, flat, identities


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
        sights: What was seen of its forward in this form and in others.
        asked: Attributes of neurons that the forward asked for, by the name of the layer.
        dropped: Names of layers whose states it returned, which are left out of `outputs`.
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
    sights: Sights = field(default_factory=Sights)
    asked: Mapping[str, frozenset[str]] = field(default_factory=dict[str, frozenset[str]])
    dropped: frozenset[str] = frozenset()

    def seen(self) -> dict[str, Tensor]:
        """Return inputs of neurons and outputs, by what they are."""
        currents = {f"the input of layer '{name}'": x for name, x in self.inputs.items()}
        steps = {f"its output {(t, i)}": y for t, parts in enumerate(self.outputs) for i, y in enumerate(parts)}
        return currents | steps


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
        self.step, self.found, self.sights = step, found, Sights()
        names = Counter(id(m) for _, m in self.model.named_modules(remove_duplicate=False))
        self.copies = {name: names[id(recorder)] for name, recorder in self.recorders.items()}
        self.dropped: set[str] = set()

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
            except Misfit as error:
                failures.append(str(error))
            except ConversionError:
                raise
            except Exception as error:
                failures.append(f"as {_SAID[form]}: {type(error).__name__}: {str(error).splitlines()[0][:200]}")
        raise not_run(self.model, x, failures, self.sights, self.step)

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
                if form == "step":
                    output = self._steps(x)
                else:  # a copy, which the forward may change in place
                    output = [self._outputs(self.model(LAYOUTS[form](x).clone()))]
                    self._note_calls()
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
        asked = {name: frozenset(recorder.asked) for name, recorder in self.recorders.items() if recorder.asked}
        dropped = frozenset(self.dropped)
        return Trace(
            currents,
            spikes,
            potentials,
            currents,
            output,
            form,
            joint,
            framed,
            buffers,
            (),
            self.sights,
            asked,
            dropped,
        )

    def _steps(self, x: Tensor) -> list[list[Tensor]]:
        outputs: list[list[Tensor]] = []
        for t, step in enumerate(x):
            step = step.clone()  # which the forward may change in place
            for recorder in self.recorders.values():
                recorder.allowed = t + 1
            outputs.append(self._outputs(self.model(step) if self.step is None else self.step(self.model, step)))
            self._note_calls()
            for name, recorder in self.recorders.items():
                if len(recorder.inputs) > t + 1:
                    raise self._several(name, len(recorder.inputs) - t)
        return outputs

    def _note_calls(self) -> None:
        """Note loops, and neurons at several places, in one call of forward."""
        for name, recorder in self.recorders.items():
            places = max(len(recorder.places), self.copies[name] if recorder.places else 0)
            most = max(recorder.places.values(), default=0)
            if places > 1:
                self.sights.places[name] = places
            if most > (self.copies[name] if len(recorder.places) == 1 else 1):
                self.sights.loops[name] = most
            recorder.places.clear()

    def _several(self, name: str, calls: int) -> Misfit:
        also = numbers(self.model, calls)
        also = f" (its {', '.join(also)} {'is' if len(also) == 1 else 'are'} {calls})" if also else ""
        seen = [
            *(["loops over time"] if name in self.sights.loops else []),
            *(["uses a neuron at several places"] if name in self.sights.places else []),
        ]
        return Misfit(
            f"as one step: '{name}' is called {calls} times by one call of forward{also}: it {' and '.join(seen)}"
        )

    def _outputs(self, y: Any) -> list[Tensor]:
        states = {id(each): r.found[0].name for r in self.recorders.values() for each in r.returned}
        kept = flat(y, frozenset(states))
        if not kept:
            return flat(y)
        self.dropped |= {states[each] for each in identities(y) if each in states}
        return kept

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
            name, seen = recorder.found[0].name, whole.shape
            if form == "step" and own != "step" and seen[1:2] == (batch,) and seen[0] > steps and not seen[0] % steps:
                self.sights.steps = seen[0] // steps
                raise Misfit(f"as one step: '{name}' sees {self.sights.steps} steps, [time, batch, *feature]")
            raise Misfit(f"'{name}' saw {list(seen)} in all, and not [time, batch, *feature] of x")
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


_SAID = {"step": "one step", "time": "[time, batch]", "batch": "[batch, time]", "folded": "[batch * time]"}


def _without_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if "Dropout" in type(module).__name__:
            module.eval()
