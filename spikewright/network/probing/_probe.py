"""Three passes of one step: read the wiring, run the same once more, and change what is beside a sample."""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm as _OldSpectralNorm

from spikewright._util.snapshot import Snapshot, random_state
from spikewright._util.trial import restored
from spikewright.dataflow import Bend, Dataflow
from spikewright.layers.restriction import FrobeniusRestriction, SpectralRestriction
from spikewright.network.complaints import keeps_state
from spikewright.network.probing.generators import position
from spikewright.network.probing.gradients import coupled
from spikewright.network.probing.held import held
from spikewright.network.probing.hooks_of_others import BACKWARD, FORWARD, hooks_on, hooks_on_all, unhook
from spikewright.network.probing.inputs import BESIDE, moved_rows, probe_inputs
from spikewright.network.probing.lazy import give_sizes
from spikewright.network.probing.live import LiveSpikes
from spikewright.network.probing.norms import followed
from spikewright.network.probing.notes import Notes
from spikewright.network.probing.passes import Pass, Passes
from spikewright.network.probing.reading import read_wiring
from spikewright.network.probing.reads import Reads
from spikewright.network.probing.recomputation import called_again, with_recomputed
from spikewright.network.probing.recorder import INPUT, Recorder
from spikewright.network.probing.start import as_ordinary, undisturbed
from spikewright.network.probing.trace import Trace
from spikewright.network.run import Run
from spikewright.network.sites import Sites
from spikewright.network.wiring import Wiring


def probe(sites: Sites, x: Tensor) -> Wiring:
    """Read the wiring of a network, and check that it can be run over time; leaves no mark.

    Args:
        sites: Of the network.
        x: Input, `[time, batch, *feature]`.

    Raises:
        NetworkError: A module keeps a state of its own, mixes samples, or loops over time.
    """
    module = sites.module
    modules = dict(module.named_modules())
    moving = frozenset(n for n, m in modules.items() if isinstance(m, _BatchNorm) and _of_batch(m))
    hooked = [Bend("a hook", n) for n, m in modules.items() if any(hooks_on(m, FORWARD))]
    hooked += [Bend("a hook on all modules", "") for _ in hooks_on_all()]
    backward = [n for n, m in modules.items() if any(hooks_on(m, BACKWARD))]
    steps = 2 if sites.recurrent else 1
    first, _ = probe_inputs(x, steps)
    give_sizes(sites, first)
    with undisturbed(module) as start:
        iterating = {n: m for n, m in modules.items() if _iterates(m)}
        again, at, iterated = random_state(), position(), Snapshot(*iterating.values(), parameters=False)
        apart = frozenset(iterating)
        before, reads = held(module, apart), Reads(module, sites.synapses)
        flow = Dataflow(start.write, reads.read)
        live = LiveSpikes(begin=reads.begin, aside=flow.aside)
        trace = Trace(flow, hooked=backward)
        recorder = Recorder(modules, flow, trace)
        with torch.enable_grad(), flow:
            flow.source(first, INPUT)
            run = Run(
                sites,
                hooks=live,
                observers=(recorder, reads),
                normalise=partial(followed, flow, moving),
                tracer=trace,
                count=False,
                writes_input=True,
            )
            output = run.advance(first)
        ours = frozenset(sites.temporal)
        left = [bend for bend in flow.left if bend.module not in ours]
        once = Pass(trace, live, position())
        passes, between = Passes(sites, ours, lambda: (again(), iterated.put_back())), held(module, apart)
        repeated = passes.run(first, LiveSpikes(), once, keeps_state)
        rewritten = frozenset(place for place in start.rewritten if place[0] not in apart | ours)
        notes = Notes(module, before, between, held(module, apart), start.written, rewritten)
        rows = moved_rows(x.shape[1], recorder.numbers) if once.end == at else BESIDE
        other = probe_inputs(x, steps, rows)[1]
        notes.check(passes, first, (other, rows), once, repeated, start.again)
        beside = passes.check_samples(first, other, once, rows)
        if beside.trace.rough and rows != BESIDE:  # so that what is between equal rows is looked at more closely
            passes.check_samples(first, probe_inputs(x, steps, BESIDE)[1], once, BESIDE)
        notes.check_evaluation(passes, first, start.again)
        past = passes.draws(first, at, once, repeated, beside)
        left += [Bend("a draw past torch", name) for name in sorted(past)]
        drew = (past | {bend.module for bend in flow.random}) - ours - apart - _within(modules, ours)
        together = frozenset[str]()
        if not drew and any(bend.module not in ours for bend in flow.cuts):
            together = coupled(sites, first, (other, rows), passes.begin)
        with torch.enable_grad():
            wiring = read_wiring(
                sites,
                recorder,
                first,
                output,
                run.state,
                flow,
                left,
                drew,
                hooked + flow.saved,
                trace.nodes + flow.hooked,
            )
    at_every_use = frozenset(n for n, m in iterating.items() if m.training and not _by_version(m))
    noted = notes.changed | {(name, "*") for name in apart}
    wiring = replace(
        wiring,
        moving=at_every_use,
        writes_input=repeated.trace.writes_input,
        unvouched=wiring.unvouched | together,
        coupled=together,
        repeated=frozenset(recorder.repeated),
        read_outside=reads.outside,
        disordered=frozenset() if drew else frozenset(beside.trace.disordered),
        notes=noted,
    )
    if not trace.suspicious:
        return wiring
    with restored(module):
        unhook(module)
        as_ordinary(module, {})
        return with_recomputed(wiring, sites, called_again(sites, first))


def _within(modules: dict[str, nn.Module], names: frozenset[str]) -> frozenset[str]:
    """Return the names of modules inside those of some names."""
    return frozenset(n for n in modules if any(n.startswith(f"{outer}.") for outer in names))


def _of_batch(norm: _BatchNorm) -> bool:
    """Whether a norm uses the statistics of a batch."""
    return norm.training or norm.running_mean is None


def _iterates(module: nn.Module) -> bool:
    """Whether a power iteration, or an estimate of a norm, moves buffers of a module on at every use."""
    old = any(isinstance(hook, _OldSpectralNorm) for hook in module._forward_pre_hooks.values())
    return old or isinstance(module, _SpectralNorm | SpectralRestriction | FrobeniusRestriction)


def _by_version(module: nn.Module) -> bool:
    """Whether a module that iterates does so once per version of its weight, however often it is used."""
    return isinstance(module, SpectralRestriction | FrobeniusRestriction)
