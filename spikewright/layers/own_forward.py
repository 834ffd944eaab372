"""Batch norm and dropout modules with a forward of their own, such as batch norm and activation in one module.

The forward runs once, with time folded into the batch; the operation inside it receives the steps.  Everything else in
the forward, neurons included, runs as it would outside the module.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import MethodType

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

from spikewright.errors import NetworkError
from spikewright.layers.batch_norm import JOINT, PER_STEP
from spikewright.layers.calls import DROPOUT_PARSERS, NORM_PARSERS, DropoutCall, NormCall
from spikewright.layers.dropout import SharedDropout, StepDropout
from spikewright.synapses.interception import Interception
from spikewright.temporal import Temporal

Forward = Callable[[Tensor], Tensor]
Activate = Callable[[Interception], AbstractContextManager[None]]

PLAIN = {
    _BatchNorm.forward,
    nn.SyncBatchNorm.forward,
    nn.Dropout.forward,
    nn.Dropout1d.forward,
    nn.Dropout2d.forward,
    nn.Dropout3d.forward,
}
"""Forwards of torch that do nothing but the operation."""
_SCANS = {JOINT.scan, PER_STEP.scan, SharedDropout.scan, StepDropout.scan}


_REPLACED = (Temporal, _BatchNorm, _DropoutNd, nn.Linear, _ConvNd)


def has_own_forward(module: nn.Module, forward: Forward, default: bool) -> bool:
    """True if the forward of a module runs once over all rows, with its operation intercepted.

    Args:
        module: A module whose forward a run replaces.
        forward: The forward.
        default: True if batch norm does what the module says, not what a rule says.
    """
    if not isinstance(module, _BatchNorm | _DropoutNd):
        return False
    if isinstance(forward, MethodType) and forward.__func__ in PLAIN:
        return False
    if isinstance(module, Temporal) and type(module).scan not in _SCANS:
        return False
    if isinstance(module, _DropoutNd):
        return True
    holds = any(isinstance(inner, _REPLACED) for child in module.children() for inner in child.modules())
    by_step = module.training or not module.track_running_stats  # the forward can be called once per step
    return holds or not default or isinstance(module, Temporal) or not by_step


def intercept_norm(
    active: Activate,
    name: str,
    module: _BatchNorm,
    forward: Forward,
    x: Tensor,
    normalise: Callable[[NormCall, Tensor], Tensor],
) -> Tensor:
    """Run the forward of a batch norm once, with its operation replaced by `normalise`.

    Args:
        active: Activates an interception while the forward runs.
        name: Name of the module.
        module: The batch norm.
        forward: Forward of the module.
        x: Input.  Tensor `[time * batch, channel, ...]`.
        normalise: Returns the normalised rows, given the operation for one batch, and the rows.

    Raises:
        NetworkError: The module does not normalise all rows by `F.batch_norm`.
    """
    count = module.num_batches_tracked
    before = None if count is None else count.clone()
    found = False

    def handle(call: NormCall, rows: Tensor) -> Tensor:
        nonlocal before, found
        found = True
        if len(rows) % len(x):
            raise _cannot_run(name, module, f"calls F.batch_norm with {len(rows)} of {len(x)} rows")
        call.cumulative, call.whole_sequence = module.momentum is None, isinstance(module, JOINT)
        y = normalise(call, rows)
        if before is not None and count is not None and call.training:
            # The forward has counted itself; count as many batches as were normalised.
            count.copy_(before + (count - before) * call.batches)
            before = count.clone()
        return y

    with active(Interception(NORM_PARSERS, handle)):
        y = forward(x)
    if not found and module.training:
        raise _cannot_run(name, module, "does not call F.batch_norm in training mode")
    return y


def intercept_dropout(
    active: Activate,
    name: str,
    module: _DropoutNd,
    forward: Forward,
    x: Tensor,
    drop: Callable[[DropoutCall, Tensor], Tensor],
) -> Tensor:
    """Run the forward of a dropout module once, with its operation replaced by `drop`.

    Args:
        active: Activates an interception while the forward runs.
        name: Name of the module.
        module: The dropout module.
        forward: Forward of the module.
        x: Input.  Tensor `[time * batch, *feature]`.
        drop: Returns the masked rows, given the operation and the rows.

    Raises:
        NetworkError: The module does not drop entries of all rows by one of torch's dropout functions.
    """
    found = False

    def handle(call: DropoutCall, rows: Tensor) -> Tensor:
        nonlocal found
        found = True
        if len(rows) % len(x):
            raise _cannot_run(name, module, f"calls F.{call.function.__name__} with {len(rows)} of {len(x)} rows")
        return drop(call, rows) if call.training and call.p else rows

    with active(Interception(DROPOUT_PARSERS, handle)):
        y = forward(x)
    if not found and module.training:
        raise _cannot_run(name, module, "calls no dropout function of torch in training mode")
    return y


def _cannot_run(name: str, module: nn.Module, what: str) -> NetworkError:
    return NetworkError(
        f"'{name}' is {type(module).__name__}, whose own forward {what}. It runs once for all steps, which are folded "
        "into its batch, so that what is inside it sees them in order; only torch's own operation, called with all "
        "rows, can be done for each step. Write the operation and what is inside the module as modules of their own, "
        "one behind the other."
    )
