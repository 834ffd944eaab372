"""The first pass of a probe, watched by everything that the wiring is read from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spikewright.dataflow import Bend, Dataflow
from spikewright.network.probing.generators import position
from spikewright.network.probing.hooks_of_others import BACKWARD, FORWARD, hooks_on, hooks_on_all
from spikewright.network.probing.live import LiveSpikes
from spikewright.network.probing.norms import followed
from spikewright.network.probing.passes import Pass
from spikewright.network.probing.reads import Reads
from spikewright.network.probing.recorder import INPUT, Recorder
from spikewright.network.probing.start import Start
from spikewright.network.probing.trace import Trace
from spikewright.network.run import Run
from spikewright.network.run_options import RunOptions
from spikewright.network.sites import Sites


@dataclass(frozen=True)
class Settings:
    """Settings of modules that a probe turns off.

    Attributes:
        moving: Names of batch norms that use the statistics of a batch.
        hooked: Places of hooks on forwards.
        backward: Names of modules with hooks on gradients.
    """

    moving: frozenset[str]
    hooked: Sequence[Bend]
    backward: Sequence[str]

    @classmethod
    def of(cls, module: nn.Module) -> "Settings":
        """Return the settings of a network's module and all inside it."""
        modules = dict(module.named_modules())
        moving = frozenset(n for n, m in modules.items() if isinstance(m, _BatchNorm) and _of_batch(m))
        hooked = [Bend("a hook", n) for n, m in modules.items() if any(hooks_on(m, FORWARD))]
        hooked += [Bend("a hook on all modules", "") for _ in hooks_on_all()]
        return cls(moving, hooked, [n for n, m in modules.items() if any(hooks_on(m, BACKWARD))])


def _of_batch(norm: _BatchNorm) -> bool:
    """True if a norm uses the statistics of a batch."""
    return norm.training or norm.running_mean is None


@dataclass(frozen=True)
class FirstPass:
    """The first pass, with the observers that watched it.

    Attributes:
        run: The run.
        output: Output of the network, `[time, batch, *output]`.
        flow: Dataflow of the operations.
        recorder: Calls of layers and neurons.
        reads: Reads of weights.
        trace: Calls of modules.
        as_pass: The pass, for comparison with later ones.
    """

    run: Run
    output: Tensor
    flow: Dataflow
    recorder: Recorder
    reads: Reads
    trace: Trace
    as_pass: Pass


def run_first(sites: Sites, x: Tensor, start: Start, settings: Settings) -> FirstPass:
    """Run the first pass.

    Args:
        sites: Modules of the network whose forward a run replaces.
        x: Input of the pass, `[time, batch, *feature]`.
        start: State of the modules before it; told of writes to parameters.
        settings: Settings of the modules before they were turned off.
    """
    reads = Reads(sites.module, sites.synapses)
    flow = Dataflow(start.write, reads.read)
    live = LiveSpikes(begin=reads.begin, aside=flow.aside)
    trace = Trace(flow, hooked=settings.backward)
    recorder = Recorder(dict(sites.module.named_modules()), flow, trace)
    with torch.enable_grad(), flow:
        flow.source(x, INPUT)
        options = RunOptions(
            hooks=live,
            observers=(recorder, reads),
            normalise=partial(followed, flow, settings.moving),
            tracer=trace,
            count=False,
            writes_input=True,
        )
        run = Run(sites, options=options)
        output = run.advance(x)
    return FirstPass(run, output, flow, recorder, reads, trace, Pass(trace, live, position()))
