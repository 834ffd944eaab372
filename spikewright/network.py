"""A user's module, seen as a spiking network: its sites, its wiring, and the runs through it."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from spikewright.errors import IncompatibleRule, InputError, NetworkError, ShapeError, SpikewrightError
from spikewright.holding import Turn, every_module, exclusively
from spikewright.layers.batch_norm import Normalise, as_it_says
from spikewright.layers.dropout import StepDropout
from spikewright.losses import Loss, LossOf
from spikewright.operations import Operation
from spikewright.part import Part
from spikewright.rates import Record
from spikewright.run import Observer, Run
from spikewright.sites import Sites, find_sites
from spikewright.synapse import Arrival
from spikewright.temporal import SiteState, State, is_static
from spikewright.trial import restored
from spikewright.wiring import Recorder, Synapse, Wiring, read_wiring


class Learner(Protocol):
    """What a network has to know of a learning rule; `spikewright.rules` holds the rules."""

    loss_of: LossOf
    through_time: bool
    bytes_for_spikes: bool

    def steps_at_once(self, wiring: Wiring, x: Tensor) -> int:
        """Return how many steps of `x` run together."""
        ...

    @property
    def uses_synapses(self) -> bool:
        """Whether the rule has a word at synapses."""
        ...

    def at_synapse(self, synapse: Synapse, x: Tensor, carried: SiteState) -> tuple[Arrival, SiteState]:
        """Say what is transmitted at a synapse and where its weight gradient is taken."""
        ...

    def check(self, wiring: Wiring, sites: Sites) -> None:
        """Raise if the rule cannot work in this network."""


class Network(nn.Module):
    """Runs an ordinary module as a spiking network over `[time, batch, *feature]`.

    Nothing is added to the module: its neurons and synapses are answered for only while a run is executing its
    forward, and are themselves again when it returns.  Time is folded into the batch for everything that has no
    memory, so a chunk of steps costs one call of each layer.

    Args:
        module: Any module that maps one tensor to one tensor, made of torch layers and neurons of this library.
            Plain `nn.BatchNorm*` normalises each step by its own batch; plain `nn.Dropout*` draws one mask per
            sequence (see `spikewright.layers`).

    Raises:
        NetworkError: There is no neuron in the module, or a part of it cannot be run over time.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        find_sites(module)  # refuses what cannot be run
        self.module = module
        self._probed: dict[tuple[object, ...], tuple[list[object], Wiring]] = {}
        self._wrap: Callable[[Part], Part] | None = None

    @property
    def sites(self) -> Sites:
        """The places of the module that a run answers for, as the module is now."""
        return find_sites(self.module)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of a run from rest, `[time, batch, *output]`."""
        return self.run(x)[0]

    def run(self, x: Tensor, state: State | None = None, *, observers: Sequence[Observer] = ()) -> tuple[Tensor, State]:
        """Run a sequence.

        Args:
            x: `[time, batch, *feature]`.
            state: What an earlier call returned, to go on from there; `None` starts at rest.
            observers: See every site as it runs.

        Returns:
            The output `[time, batch, *output]`, differentiable unless gradients are off, and the state after it.

        Raises:
            ShapeError: `x` has no step or does not fit the first layers, or its batch is not the state's.
        """
        run = self.start(x, state, observers=observers, count=False)
        return run.advance(x), run.state

    def start(
        self,
        x: Tensor,
        state: State | None = None,
        *,
        rule: Learner | None = None,
        part: Part | None = None,
        observers: Sequence[Observer] = (),
        count: bool = True,
        record: Record | None = None,
        cut: bool = False,
        normalise: Normalise = as_it_says,
    ) -> Run:
        """Return a run that is about to see `x`.

        Args:
            x: `[time, batch, *feature]`, or its first steps.
            state: Where an earlier run of the same batch ended; `None` starts at rest.
            rule: A learning rule that takes part; without one, autograd does all.
            part: What takes part in the place of the rule's word at synapses.
            observers: See every site as it runs.
            count: Count spikes, for `Run.rates`.
            record: Takes what enters and leaves neurons.
            cut: Keep the graph out of neurons.
            normalise: What batch norm does to a chunk.
        """
        wiring = self.wiring(x)
        if rule is not None:
            part = self.part_of(rule, x) if part is None else self._wrapped(part)
        through_time = rule is None or rule.through_time
        return Run(
            self.sites,
            state,
            part=part,
            through_time=through_time,
            bytes_for_spikes=rule is not None and rule.bytes_for_spikes,
            overwritten=wiring.overwritten,
            observers=observers,
            count=count,
            record=record,
            cut=cut,
            normalise=normalise,
        )

    def word_of(self, rule: Learner, x: Tensor) -> Part:
        """Return a rule's word at synapses in a run over `x`."""
        return _AtSynapses(rule, self.wiring(x))

    def part_of(self, rule: Learner, x: Tensor) -> Part | None:
        """Return the part that a rule takes in a run over `x`; `None` if it leaves all to autograd."""
        return self._wrapped(self.word_of(rule, x) if rule.uses_synapses else None)

    def joined_by(self, wrap: Callable[[Part], Part]) -> "Network":
        """Return this network as a rule sees it when something else takes part in its runs.

        Args:
            wrap: Returns what takes part, given what would have.
        """
        view = copy(self)  # which shares everything
        view._wrap = wrap
        return view

    def _wrapped(self, part: Part | None) -> Part | None:
        return part if self._wrap is None else self._wrap(part or Part())

    def wiring(self, x: Tensor) -> Wiring:
        """Return who feeds whom, for inputs like `x` (`[time, batch, *feature]`).

        Probed once and remembered, until a layer is replaced or a parameter frozen or thawed.

        Raises:
            ShapeError: `x` has no steps, or does not fit a layer it meets.
        """
        if x.dim() < 2 or 0 in x.shape[:2]:
            raise ShapeError(
                f"A run needs x of shape [time, batch, *feature] with at least one step and one sample, but got "
                f"{list(x.shape)}. Repeat a static input with x.expand(steps, *x.shape)."
            )
        key = (tuple(x.shape[2:]), x.dtype, x.device.type, self.module.training)
        parts: list[object] = [*self.module.modules(), *self.module.parameters()]
        parts += [p.requires_grad for p in self.module.parameters()]
        known = self._known(key, parts)
        return self._find_wiring_uncompiled(x, key, parts) if known is None else known

    def _find_wiring_uncompiled(self, x: Tensor, key: tuple[object, ...], parts: list[object]) -> Wiring:
        find: Any = self._find_wiring
        if torch.compiler.is_compiling() or "torch._dynamo" in sys.modules:
            # Where the compiler may not leave its graph, it shows the next line, with the comment, as the reason:
            find = torch.compiler.disable(find)  # the network is probed here: call net.wiring(x) in this mode before
        return find(x, key, parts)

    def _known(self, key: tuple[object, ...], parts: list[object]) -> Wiring | None:
        before, wiring = self._probed.get(key, ([], None))
        same = len(before) == len(parts) and all(a is b for a, b in zip(before, parts))
        return wiring if same else None

    def _find_wiring(self, x: Tensor, key: tuple[object, ...], parts: list[object]) -> Wiring:
        def probe(turn: Turn) -> Wiring:
            wiring = self._known(key, parts)  # found by another thread meanwhile
            if wiring is None:
                wiring = self._probe(x)
                self._probed[key] = parts, wiring
            return wiring

        return exclusively(self.module, every_module(self.module), probe)

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_probed": dict(self._probed)}  # which another thread may add to

    def check(self, rule: Learner, loss: Loss, x: Tensor, y: Tensor) -> None:
        """Raise unless `rule` can learn from `x` and `y` by `loss` in this network; says what to do instead.

        Args:
            rule: The learning rule.
            loss: The loss.
            x: `[time, batch, *feature]`.
            y: Target.

        Raises:
            ShapeError: Layouts do not fit.
            InputError: `x` holds a NaN or an infinity, or a label is out of range.
            IncompatibleRule: The rule cannot work with this loss or this network.
        """
        wiring = self.wiring(x)
        steps, batch = x.shape[:2]
        _check_finite(x)
        loss.check(y, steps, batch, wiring.output[0] if wiring.output else 1)
        criterion = repr(loss).partition("(")[2]
        if rule.loss_of == "steps" and not loss.per_step:
            raise IncompatibleRule(
                f"{type(rule).__name__} learns at every step, but the loss is {loss}, which reads the output averaged "
                f"over all {steps} steps. Use PerStep({criterion}, or a rule that waits for the end of the sequence "
                "(BPTT)."
            )
        if rule.loss_of == "rate" and loss.per_step:
            raise IncompatibleRule(
                f"{type(rule).__name__} learns from rates, the means over a sequence, but the loss is {loss}, which "
                f"needs the output of each step. Use OnRate({criterion}."
            )
        self._check_chunk(rule, wiring, x)
        rule.check(wiring, self.sites)

    def release(self) -> nn.Module:
        """Return the plain module; it was never changed."""
        return self.module

    def _check_chunk(self, rule: Learner, wiring: Wiring, x: Tensor) -> None:
        sites = self.sites
        at_once = 1 if sites.recurrent else rule.steps_at_once(wiring, x)
        whole = exclusively(sites.module, sites.identities, lambda turn: sites.whole_sequence)  # a probe changes modes
        for name, module in whole.items():
            if at_once < len(x):
                raise IncompatibleRule(
                    f"{type(rule).__name__} runs {at_once} of {len(x)} steps at a time here, but '{name}' is a "
                    f"{type(module).__name__}, whose statistics need all steps at once. Use the per-step form, or "
                    "BPTT(chunk=None) in a network without feedback."
                )

    def _probe(self, x: Tensor) -> Wiring:
        """Run a step (two where there is feedback) of two samples and read the graph; leaves no mark."""
        sites, recorder = self.sites, Recorder()
        try:
            with _unmarked(self.module), torch.inference_mode(False), torch.enable_grad():
                probe = x[:1, :2].detach().expand(2 if sites.recurrent else 1, *[-1] * (x.dim() - 1)).clone()
                probe.requires_grad_(probe.dtype.is_floating_point)
                run = Run(sites, observers=(recorder,))
                output = run.advance(probe)
        except (ShapeError, RuntimeError) as error:
            if isinstance(error, SpikewrightError) and not isinstance(error, ShapeError):
                raise
            raise ShapeError(
                f"{error} (The network was given x of shape {list(x.shape)}, read as [time={x.shape[0]}, "
                f"batch={x.shape[1]}, feature={list(x.shape[2:])}]. Layout is [time, batch, *feature]: repeat a static "
                "input with x.expand(steps, *x.shape), swap a batch-first one with x.transpose(0, 1).)"
            ) from error
        return read_wiring(self.module, recorder, probe, output, run.state)


class _AtSynapses(Part):
    """A rule's word at synapses."""

    def __init__(self, rule: Learner, wiring: Wiring) -> None:
        self._rule, self._wiring = rule, wiring

    def synapse(
        self, site: str, operation: Operation, x: Tensor, weight: Tensor, carried: SiteState
    ) -> tuple[Arrival, SiteState]:
        if site not in self._wiring.synapses:
            raise NetworkError(
                f"'{site}' was called, but not when the network was probed with one step of two samples. The set of "
                "layers a forward calls must not depend on the data."
            )
        return self._rule.at_synapse(self._wiring.synapses[site], x, carried)


def _check_finite(x: Tensor) -> None:
    once = x.detach()[:1] if is_static(x) else x.detach()
    if not x.dtype.is_floating_point or bool(torch.isfinite(once.sum())):
        return
    where = (~torch.isfinite(x)).nonzero()
    if not len(where):  # finite values whose sum is not
        return
    raise InputError(
        f"x of shape {list(x.shape)} holds {len(where)} values that are not finite, the first at {where[0].tolist()}. "
        "A membrane that has seen one never fires again, so the loss would hide it. Clean or clamp the data."
    )


@contextmanager
def _unmarked(module: nn.Module) -> Iterator[None]:
    """Keep a probe out of random state, running statistics, and any other buffer.

    Masks are off meanwhile, except those that change from step to step: the wiring has to see them.
    """
    quiet = [m for m in module.modules() if isinstance(m, _BatchNorm | _DropoutNd) and not isinstance(m, StepDropout)]
    modes = [(m, m.training) for m in quiet]
    with restored(module):
        try:
            for m in quiet:
                m.training = False
            yield
        finally:
            for m, training in modes:
                m.training = training
