"""What can be said about the training mode: batch norm is compared, dropout is not."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikewright.errors import ConversionError, NetworkError
from spikewright.interop.building import build, frames, in_first_form, tried
from spikewright.interop.copies import clone, copied
from spikewright.interop.frames import Step
from spikewright.interop.free_run import compare_runs, run_here
from spikewright.interop.odd import check_not_random
from spikewright.interop.reading import Found
from spikewright.interop.reference import Reference, Trace, with_recurrence
from spikewright.network import Network


def training_remarks(
    model: nn.Module,
    found: list[Found],
    x: Tensor,
    step: Step | None,
) -> list[str]:
    """Compare the free runs in training mode, with running statistics, and return remarks about it.

    Args:
        model: The model.
        found: Its neurons.
        x: Input `[time, batch, *feature]`.
        step: The user's function for one step, if there is one.

    Raises:
        ConversionError: They differ, and not for rounding.
    """
    remarks = []
    if any("Dropout" in type(m).__name__ for m in model.modules()):
        remarks.append(
            "dropout in training mode is not proven, because masks are random: by definition nn.Dropout draws anew at "
            "every step (StepDropout), and dropout of SpikingJelly keeps its mask for the sequence (nn.Dropout)"
        )
    norms = any(isinstance(m, _BatchNorm) for m in model.modules())
    if not norms and not _other_buffers(model, found):
        return remarks
    mappings = {e.name: e.read(clone(e.module), x.dtype) for e in found}
    trace = Reference(model, found, step, mappings).run(x, training=True)
    moved = _moved(model, found, trace)
    if not norms and not moved:
        return remarks
    try:
        check_not_random(trace.seen(), Reference(model, found, step, mappings).run(x, training=True).seen())
    except ConversionError:
        return [*remarks, "training mode is not compared, in which the forward draws random numbers"]
    try:
        _compare(model, found, x, step, trace)
    except NetworkError as error:
        return [*remarks, f"the converted model runs in evaluation mode alone: {error}"]
    except ConversionError as error:
        if not moved:
            raise
        names = ", ".join(map(repr, moved))
        raise ConversionError(
            f"convert: in training mode {names} change at every call of a layer (such as the power iteration of a "
            "spectral norm, or another parametrization, hook or buffer that goes on), which is every step there, and "
            f"once for all steps here, so that the two differ: {str(error).removeprefix('convert: ').split('. ')[0]}. "
            "Take it away, which keeps the weight: torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight') "
            "or torch.nn.utils.remove_spectral_norm(layer)."
        ) from error
    if moved:
        remarks.append(
            f"{', '.join(map(repr, moved))} changed in training mode at every call: at every step there, and once for "
            "all steps here"
        )
    return [*remarks, "batch norm in training mode: proven, with its running statistics"] if norms else remarks


def _other_buffers(model: nn.Module, found: list[Found]) -> set[str]:
    """Return the names of buffers that belong to no batch norm and to no neuron."""
    neurons = {id(m) for each in found for m in each.module.modules()}
    return {
        f"{name}.{key}".lstrip(".")
        for name, m in model.named_modules()
        if not isinstance(m, _BatchNorm) and id(m) not in neurons
        for key in m._buffers
    }


def _moved(model: nn.Module, found: list[Found], trace: Trace) -> list[str]:
    """Return the names of the buffers of other modules that a run in training mode changes."""
    own, other = dict(model.named_buffers()), _other_buffers(model, found)
    after = {name: value for name, value in trace.buffers.items() if name in other and name in own}
    return [n for n, value in after.items() if value.shape != own[n].shape or not torch.equal(value, own[n])]


def _compare(model: nn.Module, found: list[Found], x: Tensor, step: Step | None, trace: Trace) -> None:
    twin = copied(model, {id(e.module): clone(e.module, share=True) for e in found}, buffers=False)
    twins = [replace(e, module=twin.get_submodule(e.name)) for e in found]
    neurons = {e.name: e.read(clone(e.module, share=True), x.dtype) for e in twins}
    trace = with_recurrence(trace, neurons)
    names = {id(m.neuron): name for name, m in neurons.items()}

    def run(axis: int | None) -> tuple[nn.Module, Network]:
        built = build(twin, twins, neurons, trace, step, axis)
        return built, tried(built.eval(), x, names)

    try:
        built, net = in_first_form(frames(found, trace, step), run)
    except Exception as error:
        raise ConversionError(f"convert could not run the converted model in training mode: {error}.") from error
    built.train()
    for m in built.modules():
        if "Dropout" in type(m).__name__:
            m.eval()
    seen, output = run_here(net, names, x)
    compare_runs(trace, seen, output, neurons, "training")
    _compare_buffers(trace.buffers, dict(twin.named_buffers()))


def _compare_buffers(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> None:
    for name, value in theirs.items():
        if name not in ours or not name.endswith(("running_mean", "running_var")):
            continue
        if not torch.allclose(ours[name], value, rtol=1e-4, atol=1e-5):
            raise ConversionError(
                f"convert: '{name}' differs by {(ours[name] - value).abs().max().item():.3g} after a run in training "
                "mode. The batch norm takes its statistics over other steps than here. Use the norm of the library "
                "itself, or a batch norm that is called once at every step, or once with all of them."
            )
