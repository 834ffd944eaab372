"""`Network`: a PyTorch module that is run over time."""

import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from spikewright._util.arguments import check_tensor, shown
from spikewright._util.lengths import Lengths
from spikewright._util.ranges import check_flag, check_instance
from spikewright._util.share import sharing
from spikewright.dataflow import saved_through_hooks
from spikewright.errors import ConfigError, IncompatibleRule, InputError, ShapeError
from spikewright.layers.batch_norm import Normalise, default_norm
from spikewright.network.form import Input, Inputs, is_several, packed, time_first
from spikewright.network.holding import Turn, every_module, exclusively
from spikewright.network.hooks import Hooks
from spikewright.network.probing import Parts, Reading, explained, probe
from spikewright.network.rates import Record
from spikewright.network.resuming import check_finite, check_state
from spikewright.network.run import Run
from spikewright.network.run_options import Observer, RunOptions
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
"""Warnings for `Wiring.random`, `Wiring.coupled` and `Wiring.repeated`."""
OFTEN = 20
"""Number of repeated probes after which there is a warning."""


class Network(nn.Module):
    r"""A PyTorch module, run as a spiking network over input `[time, batch, *feature]`.

    The module :math:`f` is written for one step, as an ordinary network with spiking neurons for activations.  The run
    holds what neurons, delays, feedback and dropout carry from step to step, :math:`h`:

    .. math::
        o[t],\, h[t] = f(x[t],\, h[t-1]), \qquad h[0] = \text{rest}.

    Modules without memory see several steps at once, with time folded into the batch axis, `[time * batch, *feature]`,
    so a chunk of steps costs one call of each layer.  Results do not depend on how a sequence is cut into chunks.
    During a run the forwards of neurons and layers are replaced; when it returns, the module is as it was.

    - Plain `nn.BatchNorm*` normalises each step by its own batch; `spikewright.layers.JointBatchNorm*` takes the
      statistics of all steps together.
    - Plain `nn.Dropout*` draws one mask per sequence; `spikewright.layers.StepDropout` one per step.
    - Parameters are those of the module: `net.parameters()` are those to train, and `net.state_dict()` has them under
      the prefix `module.`.

    Args:
        module: Network of one step, from a tensor `[rows, *feature]` to a tensor `[rows, *output]`, or from and to a
            tuple, list or dictionary of such.  An `nn.Module` with at least one spiking neuron of this library; rows
            must not depend on each other.
        known: Names of modules and parameters about which there is to be no warning: modules that draw random numbers
            themselves, parameters that no rule reaches.  Collection of names as in `named_modules()` and
            `named_parameters()`.  Default: ().

    Raises:
        NetworkError: There is no spiking neuron in the module, or a part of it cannot be run over time, such as
            `nn.LSTM` or a neuron of another library.
        ConfigError: `module` is not an `nn.Module`, or is a class instead of an instance, a `Network`, or a wrapper for
            several devices.
        ExtensionError: A custom neuron declares something else than `Dynamics`.

    >>> import torch, spikewright as sw
    >>> module = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), sw.IF())
    >>> _ = torch.nn.init.constant_(module[0].weight, 0.5)
    >>> net = sw.Network(module)
    >>> output, state = net.run(torch.ones(3, 1, 1))
    >>> output.flatten().tolist()
    [0.0, 1.0, 0.0]
    >>> output, state = net.run(torch.ones(1, 1, 1), state)  # the same sequence goes on
    >>> output.flatten().tolist()
    [1.0]
    """

    def __init__(self, module: nn.Module, known: Collection[str] = ()) -> None:
        super().__init__()
        check_instance("Network", "module", module, nn.Module, "nn.Sequential(nn.Linear(4, 8), sw.LIF())")
        if isinstance(module, Network | nn.DataParallel | nn.parallel.DistributedDataParallel):
            kind = type(module).__name__
            found = "already runs over time" if isinstance(module, Network) else "copies or hooks the module inside"
            raise ConfigError(
                f"Network was given {kind}, which {found}, but it wraps the plain module. Unwrap it: "
                f"Network({kind.lower() if isinstance(module, Network) else 'wrapped'}.module)."
            )
        check_dynamics(find_sites(module))
        self.module = module
        self._known = frozenset(known)
        self._told: set[tuple[str, str]] = set()
        self._probed: dict[tuple[object, ...], Reading] = {}
        self._inputs: Inputs | None = None

    @property
    def sites(self) -> Sites:
        """Modules whose forward a run replaces, by name, as the module is now."""
        return find_sites(self.module, self._inputs)

    def forward(self, x: Input) -> Tensor:
        """Return the output of a run from rest, `[time, batch, *output]`; the final state is dropped.

        Args:
            x: Input.  Tensor `[time, batch, *feature]`, or several as in `run`.
        """
        return self.run(x)[0]

    def run(
        self,
        x: Input,
        state: State | None = None,
        *,
        observers: Sequence[Observer] = (),
        lengths: Tensor | None = None,
        batch_first: bool = False,
    ) -> tuple[Tensor, State]:
        """Run a sequence, or the next part of one.

        Args:
            x: Input.  Tensor `[time, batch, *feature]` with at least one step and one sample; or a tuple, list or
                dictionary of such tensors.  They are given to `forward` by keyword if all keys are names of its
                arguments, by place if it has two arguments without a default or `*args`, and otherwise as one object.
            state: State that an earlier call returned, to go on with the same sequences.  Dictionary
                `{layer: {name: tensor}}`.  Default: None, which starts at rest.
            observers: Objects that see every layer and neuron as it runs, with the methods `neuron(site, current,
                spikes)` and `synapse(site, operation, x, weight, current)`.  They must not change what they see.
                Default: ().
            lengths: Own number of steps of every sample of a padded batch, int64 `[batch]`, from 1 to the number of
                steps.  Outputs after the end of a sequence are 0, and so is no gradient there; the state of a sample
                that has ended is NaN, because it cannot go on.  Default: None, all steps belong to the sequences.
            batch_first: True if `x` is `[batch, time, *feature]`; so is the output then.  Default: False.

        Returns:
            The output, `[time, batch, *output]`, or several in the form in which `forward` returns them; differentiable
            unless gradients are off.  And the state after the last step.

        Raises:
            ConfigError: `batch_first` is not a bool, or `observers` is no sequence of observers.
            ShapeError: `x` has no step or does not fit the first layers; `state` is no state, or has another shape;
                `lengths` does not hold one whole number per sample.
            InputError: A length is below 1 or above the number of steps; `state` holds a NaN or an infinity.
            NetworkError: `state` belongs to other layers, or the module cannot be run over time.

        >>> import torch, spikewright as sw
        >>> output, state = sw.Network(torch.nn.Sequential(sw.IF())).run(torch.full((2, 1, 1), 0.75))
        >>> state
        {'0': {'membrane': tensor([[0.5000]])}}
        """
        net, given = self.given(x, batch_first)
        wiring = net.wiring(given)
        own = None if lengths is None else Lengths.of(lengths, given)
        if not isinstance(observers, Sequence) or not all(callable(getattr(o, "neuron", None)) for o in observers):
            raise ConfigError(
                f"Network.run(observers={shown(observers)}): observers see neurons and layers as they run. Give a "
                "sequence of objects with the methods neuron(site, current, spikes) and synapse(site, operation, x, "
                "weight, current)."
            )
        run = net.start(given, state, observers=observers, count=False, wiring=wiring, lengths=own)
        if state is not None and not torch.compiler.is_compiling():
            check_finite(state)
        output = run.advance(given)
        output = output.transpose(0, 1) if batch_first else output
        unpacked = output if run.outputs is None else run.outputs.unpack(output)
        return unpacked, run.state if own is None else own.ended(run.state, len(given))

    def given(self, x: Input, batch_first: bool = False) -> tuple["Network", Tensor]:
        """Return an input as one tensor with time first, and the network that takes it so.

        Several tensors are packed, and the network returned then unpacks them; it has the module, the parameters and
        the names of this one.  One tensor is taken as it is.

        Args:
            x: Input.  Tensor `[time, batch, *feature]`, or several as in `run`.
            batch_first: True if it is `[batch, time, *feature]`.  Default: False.

        Raises:
            ConfigError: `batch_first` is not a bool.
            ShapeError: `x` is neither a tensor nor several that share steps, samples and device.
        """
        check_flag("Network", batch_first=batch_first)
        x = time_first(x, batch_first)
        if not is_several(x):
            check_tensor("x", x, "[time, batch, *feature]")
            return self, cast(Tensor, x)
        for part in x.values() if isinstance(x, Mapping) else x:
            check_tensor("a part of x", part, "[time, batch, *feature]")
        together, form = packed("x", x, 2, "[time, batch]")
        view = copy(self)  # of the same module
        view._probed, view._inputs = self._probed, Inputs.of(form, self.module)
        return view, together

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
        lengths: Lengths | None = None,
    ) -> Run:
        """Return a `Run` that is ready for `x`; nothing is computed yet.  Rules run networks this way.

        Args:
            x: Input, or its first steps.  Tensor `[time, batch, *feature]`.
            state: State of an earlier run of the same sequences.  Dictionary `{layer: {name: tensor}}`.  Default: None,
                which starts at rest.
            hooks: Hooks that are called at every layer, neuron and output.  Instance of
                `spikewright.network.hooks.Hooks`.  Default: None, ordinary autograd.
            through_time: True keeps the graph from one step to the next; False cuts it.  Default: True.
            spikes_as_bytes: True has layers keep spikes as bytes for the backward pass, a quarter of the memory of
                float32 for two conversions.  Default: False.
            observers: Objects that see every layer and neuron as it runs, with the methods `neuron(site, current,
                spikes)` and `synapse(site, operation, x, weight, current)`.  Default: ().
            count: True counts spikes, for `Run.rates`.  Default: True.
            record: Collects mean inputs and outputs of neurons, for rules that learn from rates.  Instance of
                `spikewright.network.rates.Record`.  Default: None, nothing is collected.
            cut: True keeps neurons out of the graph.  Default: False.
            normalise: Function that normalises a chunk in place of batch norm, `(site, norm, forward, x) -> y`.
                Default: what the module says.
            wiring: Wiring of the network for such an input.  Default: None, which looks it up.
            lengths: Lengths of the sequences of a padded batch.  Default: None, all steps belong to them.

        Raises:
            ShapeError: `x` has no step or does not fit the first layers; `state` is no state.
            NetworkError: `state` belongs to other layers, or the module cannot be run over time.
            IncompatibleRule: There are hooks at layers that the backward pass calls a second time.
        """
        wiring = wiring or self.wiring(x)
        if state is not None:
            check_state(state, wiring.sites, x.device)
        if hooks is not None and wiring.recomputed and type(hooks).on_weight is not Hooks.on_weight:
            raise IncompatibleRule(
                f"This rule has hooks at layers, but the backward pass calls {', '.join(sorted(wiring.recomputed))} a "
                "second time, as torch.utils.checkpoint does, and does not call the hooks then, so their effect would "
                "be lost. Leave these layers out of what is recomputed, or use rules.BPTT, which has no hooks, or "
                "rules.BPTT(checkpoint=True)."
            )
        options = RunOptions(
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
            lengths=lengths,
            sent=wiring.sent,
        )
        return Run(wiring.sites, state, options)

    def wiring(self, x: Input) -> Wiring:
        """Return which neurons each layer feeds, for inputs like `x`.

        Found by running one step of the network on a few samples, and remembered until a layer or an attribute is
        replaced, a parameter is frozen or thawed, or a hook is added or removed.

        Args:
            x: Input.  Tensor `[time, batch, *feature]`, or several as in `run`.

        Raises:
            ShapeError: `x` has no step or no sample, or does not fit a layer; or it is not dense.
            InputError: `x` was made in inference mode, and gradients are on.
            NetworkError: The module cannot be run over time: it keeps a state of its own, mixes samples, loops over
                time, or its backward pass calls neurons a second time.
        """
        if not isinstance(x, Tensor):
            view, together = self.given(x)
            return view.wiring(together)
        check_tensor("x", x, "[time, batch, *feature]")
        if x.dim() < 2 or 0 in x.shape[:2]:
            advice = "Give it one or more of both." if x.dim() > 1 else "Add the axes that are missing."
            raise ShapeError(
                f"A run needs x of shape [time, batch, *feature] with at least one step and one sample, but got "
                f"{list(x.shape)}. {advice} A static input [batch, *feature] is repeated by x.expand(steps, *x.shape)."
            )
        if torch.compiler.is_compiling():
            return self._look_up(x)
        if torch.is_grad_enabled() and x.is_inference() and not torch.is_inference_mode_enabled():
            raise InputError(
                "x was made in inference mode, and gradients are on: such a tensor has no place in a graph. Give "
                "x.clone(), make it under torch.no_grad(), or run the network in inference mode too."
            )
        # With no other thread inside: a probe changes the modes of modules for a while.
        return exclusively(self.module, every_module(self.module), lambda turn: self._look_up(x))

    def _look_up(self, x: Tensor) -> Wiring:
        parts = Parts.of(self.module)
        key = (tuple(x.shape[2:]), x.dtype, x.device.type, parts.modes, saved_through_hooks(), self._inputs)
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
            # With fullgraph=True the compiler shows the next line, with its comment, as the reason why it stops:
            alone = torch.compiler.disable(alone)  # the network is probed here: call net.wiring(x) in this mode before
        return alone()

    def tell(self, names: Collection[str], warning: str) -> None:
        """Warn about modules or parameters, once for each name, and not about those in `known`.

        Args:
            names: Names of modules or parameters.  Collection of strings.
            warning: Text of the warning, with `{}` for the names.
        """
        untold = sorted(n for n in names if n not in self._known and (n, warning) not in self._told)
        if untold:
            self._told.update((n, warning) for n in untold)
            warnings.warn(warning.format(", ".join(f"'{n}'" for n in untold)), UserWarning, stacklevel=2)

    def __getstate__(self) -> dict[str, object]:
        return {**super().__getstate__(), "_probed": {}}  # a copy is probed again, because hooks are not copied

    def release(self) -> nn.Module:
        """Return the module that was given; it has not been changed."""
        return self.module

    def _probe(self, x: Tensor) -> Wiring:
        try:
            with sharing(None):  # a few samples of its own
                return probe(self.sites, x)
        except Exception as error:
            found = explained(error, self.sites, x)
            if found is error:
                raise
            raise found from error
