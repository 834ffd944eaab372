"""`convert`: a model of another library, with neurons of this one, and the proof that they are the same."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spikewright._util.arguments import check_tensor, shown
from spikewright._util.ranges import check_instance
from spikewright.errors import ConfigError, ConversionError, InputError, ShapeError
from spikewright.interop.absent import StateUsed
from spikewright.interop.attributes import RESTS
from spikewright.interop.building import build, frames, tried
from spikewright.interop.conversion import Conversion
from spikewright.interop.copies import clone
from spikewright.interop.doubles import double_run
from spikewright.interop.frames import Converted, Step
from spikewright.interop.free_run import compare_runs, run_here
from spikewright.interop.keeping import Kept
from spikewright.interop.mapping import Mapping
from spikewright.interop.not_run import NotRun, looped
from spikewright.interop.odd import Untouched, check_finite, check_model, check_not_random
from spikewright.interop.reading import Found, find_neurons
from spikewright.interop.reference import Reference, Trace, with_recurrence
from spikewright.interop.rows import name_of, own_currents, row_of
from spikewright.interop.tied import tie
from spikewright.interop.training_mode import training_remarks
from spikewright.interop.whole import whole_gradients
from spikewright.network import Network


def convert(model: nn.Module, x: Tensor, *, step: Step | None = None, double: bool | None = None) -> Conversion:
    """Convert a model of SpikingJelly, snnTorch, sinabs or Norse, and prove that spikes and gradients are the same.

    Neurons are replaced in a copy of the model, which shares its parameters and buffers; the model itself is not
    changed, and training the copy trains it.  Then

    - the model runs on `x` from rest, and each neuron here on the current that the model's own had, so that a rounding
      difference stays one spike; and the whole network runs by itself, with layers and output compared;
    - each neuron and its original get four probe currents of 64 steps, in float64 too, which find what `x` does not:
      ties at the threshold, several thresholds at once, long silence; spikes and gradients are compared;
    - a copy of the model with its weights moved by a tenth runs in both, which shows what a weight of 0 hides, and the
      gradients of the input and of all weights are compared, which shows what is detached.

    A difference is taken for rounding only where the potential is within the rounding error of the threshold.  None of
    the libraries is imported.

    Args:
        model: The model, of one library.  An `nn.Module`; its state and its mode stay as they are.
        x: Input that makes all layers fire, in the dtype in which the network is to run.  Tensor `[time, batch,
            *feature]`; it is given to the model in the layout that its neurons want, step by step or as a sequence.
        step: Function (model, input of one step `[batch, *feature]`) -> output of that step, for a model that loops
            over time inside its forward.  Default: None, the forward of the model.
        double: True also proves the whole network in float64, where the library can (SpikingJelly, Norse), and raises
            where it cannot; False keeps to the dtype of `x`; None does it where it can.  Default: None.

    Raises:
        ConversionError: A neuron has no exact equal here, or the proof failed; the message names the layer, and the
            step, the neuron and its potential where it is about a spike.
        ShapeError: `x` is no such tensor.
        InputError: `x` holds NaN or infinite values.
        ConfigError: An argument is of the wrong type.

    >>> import torch, spikewright as sw
    >>> try:
    ...     from spikingjelly.activation_based import neuron
    ...     model = torch.nn.Sequential(torch.nn.Linear(4, 3), neuron.LIFNode())
    ...     library = sw.interop.convert(model, torch.rand(6, 2, 4)).library
    ... except ImportError:  # which is not needed otherwise
    ...     library = "SpikingJelly"
    >>> library
    'SpikingJelly'
    """
    _check(model, x, step, double)
    remarks = check_model(model)
    kept = Kept(model)
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        found, given, first = _found(model, x), step, None
        try:
            while True:
                try:
                    result = _converted(model, found, _telling(x.clone()), given, double, kept)
                    return replace(result, remarks=[*result.remarks, *remarks])
                except StateUsed as used:
                    found = _with_state(found, used, x)
                except NotRun as error:
                    if given is not None:
                        raise error if error.own_steps or first is None else first from None
                    if all(each.form() == "step" for each in found):
                        raise
                    given, first = as_one_step, error
        finally:
            kept.restore()


def as_one_step(model: nn.Module, x: Tensor) -> Any:
    """Return what a model over time gives for one step, which its forward makes a sequence of."""
    return model(x)


def _found(model: nn.Module, x: Tensor) -> list[Found]:
    found = find_neurons(model, x)
    libraries = sorted({each.library.name for each in found})
    if len(libraries) > 1:
        raise ConversionError(
            f"convert was given {type(model).__name__} with neurons of {' and '.join(libraries)}, whose steps and "
            "layouts differ. Give the parts of one library, one by one."
        )
    return found


def _with_state(found: list[Found], used: StateUsed, x: Tensor) -> list[Found]:
    """Return the neurons with the potential of one more, which the model uses or returns, or without its states.

    Raises:
        StateUsed: It has none that could be returned here, and the model uses it.
    """
    for each in found:
        if each.name != used.name:
            continue
        if used.kind == "potential" and not each.potential:
            if each.read(clone(each.module), x.dtype).potential is not None:
                return [replace(one, potential=True) if one is each else one for one in found]
        if used.returned and not each.dropped:
            return [replace(one, dropped=True) if one is each else one for one in found]
    raise used


def _telling(x: Tensor) -> Tensor:
    """Return an input that shows how a model uses time: of several steps, and not of as many samples."""
    if len(x) == 1:
        x = torch.cat([x, x])
    return x[:, :-1] if x.shape[0] == x.shape[1] > 1 else x


def _converted(
    model: nn.Module, found: list[Found], x: Tensor, step: Step | None, double: bool | None, kept: Kept
) -> Conversion:
    mappings = {each.name: each.read(clone(each.module, share=True), x.dtype) for each in found}
    tie(found, mappings)
    with Untouched(model):
        trace = Reference(model, found, step, mappings).run(x)
        again = Reference(model, found, step, mappings).run(x)
    check_not_random(trace.seen(), again.seen())
    _check_seen(found, trace)
    for name, current in trace.inputs.items():
        check_finite(f"the input of layer '{name}'", current)
    trace = with_recurrence(trace, mappings)
    module, net = _built(model, found, mappings, trace, step, x)
    names = {id(mapping.neuron): name for name, mapping in mappings.items()}
    modes = [(m, m.training) for m in module.modules()]
    own = own_currents(mappings, trace)
    fresh = Kept(module, (Converted,))
    module.eval()
    try:
        seen, output = run_here(net, names, x)
        free = compare_runs(trace, seen, output, mappings, name_of(x.dtype))
        kept.restore()
        remarks = double_run(model, found, x, step, trace, double)
    finally:
        fresh.restore()
        for m, training in modes:
            m.training = training
    remarks += training_remarks(model, found, x, step)
    rows = [row_of(each, mappings[each.name], own[each.name], free[each.name], trace) for each in found]
    remarks += whole_gradients(model, found, x, step, trace)
    remarks += _told(trace, step)
    trained = [(e.name, e.module, mappings[e.name].neuron, mappings[e.name].trained) for e in found]
    remarks += [
        f"'{n}': {t.note} is trained; write_back() puts it into the model" for n, _, _, ts in trained for t in ts
    ]
    return Conversion(module, found[0].library.name, rows, remarks, [t for t in trained if t[3]])


def _told(trace: Trace, step: Step | None) -> list[str]:
    """Return remarks about the form of the model that was converted."""
    found: list[str] = []
    if step is as_one_step:
        found.append("the forward makes a sequence of one step, and is called once per step, as by step=")
    if trace.dropped:
        names = ", ".join(repr(name) for name in trace.spikes if name in trace.dropped)
        found.append(f"states of {names} that the model returns are not returned here: a run holds them")
    return found


def _check(model: object, x: object, step: object, double: object) -> None:
    check_instance("convert", "model", model, nn.Module, "a model of SpikingJelly, snnTorch, sinabs or Norse")
    check_tensor("x", x, "[time, batch, *feature]")
    assert isinstance(x, Tensor)
    if x.dim() < 2 or 0 in x.shape[:2]:
        raise ShapeError(
            f"convert needs x of shape [time, batch, *feature] with at least one step and one sample, but got "
            f"{list(x.shape)}. A static input [batch, *feature] is repeated by x.expand(steps, *x.shape)."
        )
    if x.dtype not in (torch.float32, torch.float64):
        raise ShapeError(
            f"convert was given x in {str(x.dtype).removeprefix('torch.')}, but it compares in float32 or float64. "
            "Give x.float()."
        )
    check_finite("x", x, InputError)
    if step is not None and not callable(step):
        raise ConfigError(
            f"convert(step={shown(step)}): step is a function of the model and the input of one step. Give "
            "step=lambda model, x: model(x)."
        )
    if double not in (None, True, False):
        raise ConfigError(f"convert(double={shown(double)}): double is True, False or None. Leave it out.")


def _check_seen(found: list[Found], trace: Trace) -> None:
    for each in found:
        if each.name in trace.spikes:
            continue
        methods = sorted(
            n for n in trace.asked.get(each.name, ()) if n not in RESTS and callable(getattr(each.module, n))
        )
        if methods:
            raise ConversionError(
                f"convert: the forward of the model uses layer '{each.name}' through {', '.join(methods)}, and does "
                "not call it, so that its steps are not seen. Call the neuron itself."
            )
        raise ConversionError(
            f"convert: layer '{each.name}' is not called when the model runs on x, so that nothing can be said of "
            "it. Remove it from the model, or give x and a step that use it."
        )


def _built(
    model: nn.Module, found: list[Found], mappings: dict[str, Mapping], trace: Trace, step: Step | None, x: Tensor
) -> tuple[nn.Module, Network]:
    failures: list[Exception] = []
    for axis in frames(found, trace, step):
        module = build(model, found, mappings, trace, step, axis)
        modes, kept = [(m, m.training) for m in module.modules()], Kept(module, (Converted,))
        try:
            return module, tried(module.eval(), x, {id(m.neuron): name for name, m in mappings.items()})
        except Exception as error:
            failures.append(error)
        finally:
            kept.restore()
            for m, training in modes:
                m.training = training
    told = [error for error in failures if isinstance(error, ConversionError)]
    if told:
        raise next((error for error in told if isinstance(error, StateUsed)), told[0])
    last = failures[-1]
    told = f"{type(last).__name__}: {last}".rstrip(".")
    also = f" {looped(model, trace.sights)}" if trace.form != "step" and trace.sights.loops else ""
    raise ConversionError(
        f"convert: {type(model).__name__} runs on x, but not the converted model: {told}.{also}"
    ) from last
