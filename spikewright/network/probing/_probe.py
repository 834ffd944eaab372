"""The probe of a network: passes of one step from which the wiring is read, and in which the network is checked."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm as _OldSpectralNorm

from spikewright._util.snapshot import Snapshot, random_state
from spikewright._util.trial import restored
from spikewright.dataflow import Bend
from spikewright.layers.restriction import FrobeniusRestriction, SpectralRestriction
from spikewright.network.complaints import keeps_state
from spikewright.network.probing.first_pass import FirstPass, Settings, run_first
from spikewright.network.probing.generators import position
from spikewright.network.probing.gradients import coupled
from spikewright.network.probing.held import held
from spikewright.network.probing.hooks_of_others import unhook
from spikewright.network.probing.inputs import BESIDE, moved_rows, probe_inputs
from spikewright.network.probing.lazy import give_sizes
from spikewright.network.probing.live import LiveSpikes
from spikewright.network.probing.notes import Notes
from spikewright.network.probing.passes import Passes
from spikewright.network.probing.reading import read_wiring
from spikewright.network.probing.recomputation import called_again, with_recomputed
from spikewright.network.probing.start import Start, as_ordinary, undisturbed
from spikewright.network.sites import Sites
from spikewright.network.wiring import Wiring


def probe(sites: Sites, x: Tensor) -> Wiring:
    """Read the wiring of a network, and check that it can be run over time; the network stays as it was.

    Args:
        sites: Modules of the network whose forward a run replaces.
        x: Input, `[time, batch, *feature]`.

    Raises:
        NetworkError: A module keeps a state of its own, mixes samples, or loops over time.
    """
    settings = Settings.of(sites.module)
    step, _ = probe_inputs(x, sites)
    give_sizes(sites, step)
    with undisturbed(sites.module) as start:
        passes = _Probe(sites, x, step, start)
        first = run_first(sites, step, start, settings)
        compared = passes.compare(first)
        wiring = passes.read(first, compared, settings)
    if not first.trace.suspicious:
        return wiring
    with restored(sites.module):
        unhook(sites.module)
        as_ordinary(sites.module, {})
        return with_recomputed(wiring, sites, called_again(sites, step))


@dataclass(frozen=True)
class _Compared:
    """What the later passes show.

    Attributes:
        writes_input: True if the network writes to its input in place.
        disordered: Layers that see the rows of samples in another order.
        notes: Attributes and buffers that a forward changes.
        past: Modules that draw random numbers past the operators of torch.
        drew: All modules that draw random numbers themselves.
        coupled: Parameters whose gradients of the output of a sample change with the samples beside it.
    """

    writes_input: bool
    disordered: frozenset[str]
    notes: Notes
    past: frozenset[str]
    drew: frozenset[str]
    coupled: frozenset[str]


class _Probe:
    """The passes behind the first: the same step once more, and the same sample among others.

    Args:
        sites: Modules of the network whose forward a run replaces.
        x: Input of the network, `[time, batch, *feature]`.
        step: Input of the passes, made from it.
        start: State of the modules before the passes.
    """

    def __init__(self, sites: Sites, x: Tensor, step: Tensor, start: Start) -> None:
        self._sites, self._x, self._step, self._start = sites, x, step, start
        self._modules = dict(sites.module.named_modules())
        self._ours = frozenset(sites.temporal)
        self._iterating = {n: m for n, m in self._modules.items() if _iterates(m)}
        self._apart = frozenset(self._iterating)
        draws, iterated = random_state(), Snapshot(*self._iterating.values(), parameters=False)
        self._at, self._before = position(), self._held()
        self._passes = Passes(sites, self._ours, lambda: (draws(), iterated.put_back()))

    def compare(self, first: FirstPass) -> _Compared:
        """Run the step again, and among other samples; raise `NetworkError` if anything of a sample changes."""
        once, passes, step, again = first.as_pass, self._passes, self._step, self._start.again
        between = self._held()
        repeated = passes.run(step, LiveSpikes(), once, keeps_state)
        rewritten = frozenset(place for place in self._start.rewritten if place[0] not in self._apart | self._ours)
        notes = Notes(self._sites.module, self._before, between, self._held(), self._start.written, rewritten)
        rows = moved_rows(self._x.shape[1], first.recorder.numbers) if once.end == self._at else BESIDE
        other = probe_inputs(self._x, self._sites, rows)[1]
        notes.check(passes, step, (other, rows), once, repeated, again)
        beside = passes.check_samples(step, other, once, rows)
        if beside.trace.rough and rows != BESIDE:  # a closer look, at equal numbers of rows
            passes.check_samples(step, probe_inputs(self._x, self._sites, BESIDE)[1], once, BESIDE)
        notes.check_evaluation(passes, step, again)
        past = passes.draws(step, self._at, once, repeated, beside)
        drew = self._drew(first, past)
        together = frozenset[str]()
        if not drew and any(bend.module not in self._ours for bend in first.flow.cuts):
            together = coupled(self._sites, step, (other, rows), passes.begin)
        disordered = frozenset() if drew else frozenset(beside.trace.disordered)
        return _Compared(repeated.trace.writes_input, disordered, notes, past, drew, together)

    def read(self, first: FirstPass, compared: _Compared, settings: Settings) -> Wiring:
        """Return the wiring that the passes show."""
        flow = first.flow
        left = [bend for bend in flow.left if bend.module not in self._ours]
        left += [Bend("a draw past torch", name) for name in sorted(compared.past)]
        with torch.enable_grad():
            wiring = read_wiring(
                self._sites,
                first.recorder,
                self._step,
                first.output,
                first.run.state,
                flow,
                left,
                compared.drew,
                [*settings.hooked, *flow.saved],
                first.trace.nodes + flow.hooked,
            )
        return replace(
            wiring,
            moving=frozenset(n for n, m in self._iterating.items() if m.training and not _by_version(m)),
            writes_input=compared.writes_input,
            unvouched=wiring.unvouched | compared.coupled,
            coupled=compared.coupled,
            repeated=frozenset(first.recorder.repeated),
            read_outside=first.reads.outside,
            disordered=compared.disordered,
            outputs=first.run.outputs,
            sent={
                n: (tuple(s.shape[1:]), s.dtype)
                for n in self._sites.sources
                if (s := first.run.state.get(n, {}).get("last")) is not None
            },
            notes=compared.notes.changed | {(name, "*") for name in self._apart},
        )

    def _held(self) -> dict[tuple[str, str], list[object]]:
        return held(self._sites.module, self._apart)

    def _drew(self, first: FirstPass, past: frozenset[str]) -> frozenset[str]:
        """Return the modules that draw random numbers themselves, without those of the library."""
        inside = frozenset(n for n in self._modules if any(n.startswith(f"{outer}.") for outer in self._ours))
        return (past | {bend.module for bend in first.flow.random}) - self._ours - self._apart - inside


def _iterates(module: nn.Module) -> bool:
    """True if every use of a module changes its buffers: by power iteration, or by an estimate of a norm."""
    old = any(isinstance(hook, _OldSpectralNorm) for hook in module._forward_pre_hooks.values())
    return old or isinstance(module, _SpectralNorm | SpectralRestriction | FrobeniusRestriction)


def _by_version(module: nn.Module) -> bool:
    """True if a module that iterates does so once per version of its weight, however often it is used."""
    return isinstance(module, SpectralRestriction | FrobeniusRestriction)
