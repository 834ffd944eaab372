"""Three passes of one step: read the wiring, run the same once more, and change what is beside a sample."""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm as _OldSpectralNorm

from spikewright.complaints import keeps_state
from spikewright.dataflow import Bend, Dataflow
from spikewright.layers.dropout import StepDropout
from spikewright.layers.restriction import FrobeniusRestriction, SpectralRestriction
from spikewright.probing.generators import position
from spikewright.probing.held import held, moved
from spikewright.probing.inputs import BESIDE, MOVED, probe_inputs
from spikewright.probing.live import LiveSpikes
from spikewright.probing.norms import followed
from spikewright.probing.passes import Notes, Pass, Passes
from spikewright.probing.reading import read_wiring
from spikewright.probing.recomputation import called_again, with_recomputed
from spikewright.probing.recorder import INPUT, Recorder
from spikewright.probing.trace import Trace
from spikewright.run import Run
from spikewright.sites import Sites
from spikewright.snapshot import Snapshot, random_state
from spikewright.trial import own_weights, restored
from spikewright.uncompiled import uncompiled
from spikewright.wiring import Wiring

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


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
    hooked = [Bend("a hook", n) for n, m in modules.items() if _hooked(m)]
    with undisturbed(module) as start:
        steps, at = 2 if sites.recurrent else 1, position()
        first, _ = probe_inputs(x, steps)
        if any(isinstance(m, LazyModuleMixin) for m in modules.values()):
            with torch.no_grad():  # which gives them their sizes
                Run(sites, count=False, writes_input=True).advance(first)
        iterating = {n: m for n, m in modules.items() if _iterates(m)}
        again, iterated = random_state(), Snapshot(*iterating.values(), parameters=False)
        apart = frozenset(iterating)
        before, flow, live = held(module, apart), Dataflow(), LiveSpikes()
        trace = Trace(flow)
        recorder = Recorder(modules, flow, trace)
        with torch.enable_grad(), flow:
            flow.source(first, INPUT)
            run = Run(
                sites,
                hooks=live,
                observers=(recorder,),
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
        after = held(module, apart)
        rows = MOVED if once.end == at else BESIDE
        other = probe_inputs(x, steps, rows)[1]
        notes = Notes(module, between, after, moved(between, after), start.written)
        if notes.names:
            passes.check_notes(first, once, repeated, notes)
        if notes.names or moved(before, after):
            passes.check_beginning(first, other, rows, once, start.again)
        beside = passes.check_samples(first, other, once, rows)
        if notes.names and any(m.training for m in modules.values()):
            passes.check_evaluation(first, start.again)
        past = passes.draws(first, at, once, repeated, beside)
        left += [Bend("a draw past torch", name) for name in sorted(past)]
        drew = (past | {bend.module for bend in flow.random}) - ours - apart - _within(modules, ours)
        with torch.enable_grad():
            wiring = read_wiring(module, recorder, first, output, run.state, flow, left, drew, hooked)
    at_every_use = frozenset(n for n, m in iterating.items() if m.training and not _by_version(m))
    wiring = replace(wiring, moving=at_every_use, writes_input=repeated.trace.writes_input)
    if not trace.suspicious:
        return wiring
    with restored(module):
        _unhook(module)
        _as_ordinary(module, {})
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


def _hooked(module: nn.Module) -> bool:
    """Whether somebody's hooks may change what a module is given or returns."""
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    return not isinstance(module, LazyModuleMixin) and not all(map(_of_torch, hooks))


class Start:
    """What modules held before a probe.

    Args:
        module: The whole.
        snapshot: Of it.
    """

    def __init__(self, module: nn.Module, snapshot: Snapshot) -> None:
        self._module, self._snapshot = module, snapshot
        self._copies: dict[Tensor, Tensor] = {}

    def quieten(self) -> None:
        """Turn off what would disturb a probe, or be disturbed by it."""
        for m in self._module.modules():
            if isinstance(m, _BatchNorm | _DropoutNd) and not isinstance(m, StepDropout):
                m.training = False
        _unhook(self._module)
        _as_ordinary(self._module, self._copies)

    def again(self) -> None:
        """Go back there."""
        with torch.no_grad():
            self._snapshot.put_back()
        self.quieten()

    @property
    def written(self) -> frozenset[str]:
        """Names of modules whose parameters have been written to since."""
        changed = {id(t.tensor) for t in self._snapshot.tensors if isinstance(t.tensor, nn.Parameter) and t.changed}
        return frozenset(
            name for name, m in self._module.named_modules() if changed & set(map(id, m.parameters(recurse=False)))
        )


@contextmanager
def undisturbed(module: nn.Module) -> Iterator[Start]:
    """Let a module run as it is written, so that graphs can be made, and leave no mark, also on hooks of others.

    Norms use running statistics meanwhile, and masks are off, except those that change from step to step: the wiring
    has to see them.
    """
    with restored(module) as snapshot, torch.inference_mode(False), uncompiled(), own_weights():
        start = Start(module, snapshot)
        start.quieten()
        yield start


def _unhook(module: nn.Module) -> None:
    for m in module.modules():
        for hooks in () if isinstance(m, LazyModuleMixin) else _HOOKS:
            kept = {key: hook for key, hook in m.__dict__.get(hooks, {}).items() if _of_torch(hook)}
            m.__dict__[hooks] = OrderedDict(kept)


def _as_ordinary(module: nn.Module, copies: dict[Tensor, Tensor]) -> None:
    """Have copies in the place of tensors made in inference mode, which take part in no graph; `copies` keeps them."""
    with torch.inference_mode(False):
        for m in module.modules():
            # One that is traced by TorchScript has neither parameters nor buffers of its own.
            places: list[Any] = [m.__dict__, *(m.__dict__.get(key, {}) for key in ("_parameters", "_buffers"))]
            for place in places:
                for name, x in place.items():
                    if isinstance(x, Tensor) and not is_lazy(x) and x.is_inference():
                        copy = nn.Parameter(x.clone(), x.requires_grad) if isinstance(x, nn.Parameter) else x.clone()
                        place[name] = copies.setdefault(x, copy)


def _of_torch(hook: object) -> bool:
    """Whether torch put a hook on a layer, to compute its weight or to give it its size."""
    owner = getattr(hook, "__self__", hook)
    kind = owner.__class__ if not isinstance(owner, type) else owner
    named = getattr(hook, "__module__", None) if callable(hook) and hasattr(hook, "__qualname__") else kind.__module__
    return str(named or kind.__module__).partition(".")[0] == "torch"
