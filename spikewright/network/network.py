"""A user's module, seen as a spiking network: its sites, its wiring, and the runs through it."""

import sys
import warnings
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikewright._util.arguments import check_tensor
from spikewright.dataflow import saved_through_hooks
from spikewright.errors import IncompatibleRule, ShapeError
from spikewright.layers.batch_norm import Normalise, default_norm
from spikewright.network.holding import Turn, every_module, exclusively
from spikewright.network.hooks import Hooks
from spikewright.network.probing import Parts, Reading, explained, probe
from spikewright.network.rates import Record
from spikewright.network.resuming import check_state
from spikewright.network.run import Observer, Run
from spikewright.network.sites import Sites, check_dynamics, find_sites
from spikewright.network.wiring import Wiring
from spikewright.temporal import State

WARNINGS = (
    "The code in the forward of {} ('' is the whole) draws random numbers by itself, anew for every step and sample, "
    "and others if a sequence is cut into other chunks; behind there, no claim is made. Use nn.Dropout, whose mask a "
    "run keeps for the sequence, or layers.StepDropout; or, if that is meant, Network(module, known=[...]) with what "
    "is named here.",
    "The gradients of {} that come from one sample change with the samples beside it, or with their number: a factor "
    "of x.numel(), a count or a mean over rows enters them (behind detach, or by scale_grad_by_freq). In a run, rows "
    "are steps and samples, so that other chunks give other gradients; no claim is made of them. Scale by what does "
    "not depend on the first axis; or, if that is meant, Network(module, known=[...]) with what is named here.",
    "{} is called several times in a step by one place of the code, with currents of the same layers. It is taken for "
    "so many groups of neurons, each with a state of its own, and not for steps of time: a run does the loop over "
    "time, over the first axis of x. If groups are meant, Network(module, known=[...]) with what is named here.",
)
"""Of modules that draw, of gradients over rows, of neurons in a loop."""
OFTEN = 20
"""How many times a wiring is read anew before there is a warning."""


class Network(nn.Module):
    """Runs an ordinary module as a spiking network over `[time, batch, *feature]`.

    Nothing is added to the module: its neurons and synapses are answered for only while a run is executing its
    forward, and are themselves again when it returns.  Time is folded into the batch for everything that has no
    memory, so a chunk of steps costs one call of each layer.

    Args:
        module: Any module that maps one tensor to one tensor, made of torch layers and neurons of this library.
            Plain `nn.BatchNorm*` normalises each step by its own batch; plain `nn.Dropout*` draws one mask per
            sequence (see `spikewright.layers`).
        known: Names of modules that draw random numbers by themselves, and of parameters that no rule sees, of which
            there is to be no warning.

    Raises:
        NetworkError: There is no neuron in the module, or a part of it cannot be run over time.
    """

    def __init__(self, module: nn.Module, known: Collection[str] = ()) -> None:
        super().__init__()
        check_dynamics(find_sites(module))  # which refuse what cannot be run
        self.module = module
        self._known = frozenset(known)
        self._told: set[tuple[str, str]] = set()
        self._probed: dict[tuple[object, ...], Reading] = {}

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
            ShapeError: `x` has no step or does not fit the first layers; or `state` is none, or of another shape.
            NetworkError: `state` belongs to other layers.
        """
        run = self.start(x, state, observers=observers, count=False)
        return run.advance(x), run.state

    def start(
        self,
        x: Tensor,
        state: State | None = None,
        *,
        hooks: Hooks | None = None,
        through_time: bool = True,
        spikes_as_bytes: bool = False,
        observers: Sequence[Observer] = (),
        count: bool = True,
        record: Record | None = None,
        cut: bool = False,
        normalise: Normalise = default_norm,
        wiring: Wiring | None = None,
    ) -> Run:
        """Return a run that is about to see `x`.

        Args:
            x: `[time, batch, *feature]`, or its first steps.
            state: Where an earlier run of the same batch ended; `None` starts at rest.
            hooks: Called at every layer, neuron and output; `None` leaves all to autograd.
            through_time: Keep the graph from one step to the next.
            spikes_as_bytes: Have layers keep spikes as bytes for the backward pass: a quarter of the memory, for two
                conversions.
            observers: See every site as it runs.
            count: Count spikes, for `Run.rates`.
            record: Takes what enters and leaves neurons.
            cut: Keep the graph out of neurons.
            normalise: What batch norm does to a chunk.
            wiring: The network's wiring for such an input, if it has just been looked up.

        Raises:
            IncompatibleRule: There are hooks at layers that the backward pass calls a second time.
        """
        wiring = wiring or self.wiring(x)
        if state is not None:
            check_state(state, wiring.sites)
        if hooks is not None and wiring.recomputed and type(hooks).on_weight is not Hooks.on_weight:
            raise IncompatibleRule(
                f"This rule has hooks at layers, but the backward pass calls {', '.join(sorted(wiring.recomputed))} a "
                "second time, as torch.utils.checkpoint does, without them. What the hooks say there would be lost. "
                "Leave these layers out of what is recomputed, or learn with rules.BPTT, which has no hooks, or "
                "rules.BPTT(checkpoint=True)."
            )
        return Run(
            wiring.sites,
            state,
            hooks=hooks,
            through_time=through_time,
            spikes_as_bytes=spikes_as_bytes,
            overwritten=wiring.overwritten,
            writes_input=wiring.writes_input,
            recomputed=wiring.recomputed,
            observers=observers,
            count=count,
            record=record,
            cut=cut,
            normalise=normalise,
        )

    def wiring(self, x: Tensor) -> Wiring:
        """Return who feeds whom, for inputs like `x` (`[time, batch, *feature]`).

        Probed once and remembered, until a layer or an attribute is replaced, a parameter frozen or thawed, or a hook
        put on one of them or taken off.

        Raises:
            ShapeError: `x` has no steps, or does not fit a layer it meets.
            NetworkError: The backward pass calls neurons a second time.
        """
        check_tensor("x", x, "[time, batch, *feature]")
        if x.dim() < 2 or 0 in x.shape[:2]:
            raise ShapeError(
                f"A run needs x of shape [time, batch, *feature] with at least one step and one sample, but got "
                f"{list(x.shape)}. Repeat a static input with x.expand(steps, *x.shape)."
            )
        if torch.compiler.is_compiling():
            return self._look_up(x)
        # Alone with the modules, because the probe of another thread changes their modes for a while.
        return exclusively(self.module, every_module(self.module), lambda turn: self._look_up(x))

    def _look_up(self, x: Tensor) -> Wiring:
        parts = Parts.of(self.module)
        key = (tuple(x.shape[2:]), x.dtype, x.device.type, parts.modes, saved_through_hooks())
        known = self._probed.get(key)
        if known is not None and known.is_of(parts):
            return known.wiring

        def find(turn: Turn) -> Wiring:
            before = parts.settings()
            wiring = self._probe(x)
            moved = [place for place, found in parts.settings().items() if before.get(place, self) != found]
            for names, warning in zip((wiring.random, wiring.coupled, wiring.repeated), WARNINGS):
                self.tell(names, warning)
            times = 0 if known is None else known.times + 1
            self._probed[key] = Reading.of(self.module, parts, wiring, times, moved)
            if known is not None and times == OFTEN:
                self.tell(
                    [known.changed_attribute(self.module)],
                    "The network is looked at anew, in three passes, because {} is not what it was at the last run; "
                    f"this is the {OFTEN}th time. Set once what does not change what the network computes, keep it "
                    "outside of its modules, or name it in Network(module, known=[...]).",
                )
            return wiring

        alone: Any = partial(exclusively, self.module, every_module(self.module), find)
        if torch.compiler.is_compiling() or "torch._dynamo" in sys.modules:
            # Where the compiler may not leave its graph, it shows the next line, with the comment, as the reason:
            alone = torch.compiler.disable(alone)  # the network is probed here: call net.wiring(x) in this mode before
        return alone()

    def tell(self, names: Collection[str], warning: str) -> None:
        """Warn of modules or parameters by name, of each once, and not of those that are known.

        Args:
            names: Of the modules or parameters.
            warning: What is to be said, with a place for the names.
        """
        untold = sorted(n for n in names if n not in self._known and (n, warning) not in self._told)
        if untold:
            self._told.update((n, warning) for n in untold)
            warnings.warn(warning.format(", ".join(f"'{n}'" for n in untold)), UserWarning, stacklevel=2)

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_probed": {}}  # read anew: hooks, for one, are not copied

    def release(self) -> nn.Module:
        """Return the plain module; it was never changed."""
        return self.module

    def _probe(self, x: Tensor) -> Wiring:
        try:
            return probe(self.sites, x)
        except Exception as error:
            found = explained(error, self.sites, x)
            if found is error:
                raise
            raise found from error
