"""What can be said about the training mode: batch norm is compared, dropout is not."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikewright.errors import ConversionError
from spikewright.interop.building import build, frames, tried
from spikewright.interop.copies import clone, copied
from spikewright.interop.frames import Step
from spikewright.interop.free_run import compare_runs, run_here
from spikewright.interop.reading import Found
from spikewright.interop.reference import Reference, with_recurrence


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
    if not any(isinstance(m, _BatchNorm) for m in model.modules()):
        return remarks
    trace = Reference(model, found, step).run(x, training=True)
    twin = copied(model, {id(e.module): clone(e.module, share=True) for e in found}, buffers=False)
    twins = [Found(e.name, twin.get_submodule(e.name), e.library, e.kind) for e in found]
    neurons = {e.name: e.read(clone(e.module), x.dtype) for e in twins}
    trace = with_recurrence(trace, neurons)
    names = {id(m.neuron): name for name, m in neurons.items()}
    last: Exception | None = None
    for axis in frames(found, trace, step):
        try:
            built = build(twin, twins, neurons, trace, step, axis)
            net = tried(built.eval(), x, names)
        except Exception as error:  # the next form
            last = error
            continue
        built.train()
        for m in built.modules():
            if "Dropout" in type(m).__name__:
                m.eval()
        seen, output = run_here(net, names, x)
        compare_runs(trace, seen, output, neurons, "training")
        _compare_buffers(trace.buffers, dict(twin.named_buffers()))
        return [*remarks, "batch norm in training mode: proven, with its running statistics"]
    raise ConversionError(f"convert could not run the converted model in training mode: {last}.")


def _compare_buffers(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> None:
    for name, value in theirs.items():
        if name not in ours or not name.endswith(("running_mean", "running_var")):
            continue
        if not torch.allclose(ours[name], value, rtol=1e-4, atol=1e-5):
            raise ConversionError(
                f"convert: '{name}' differs by {(ours[name] - value).abs().max().item():.3g} after a run in training "
                "mode. The batch norm takes its statistics over other steps than here. Use model.eval() and freeze it, "
                "or the norm of the library itself."
            )
