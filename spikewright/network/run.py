"""A run over one sequence: it holds the state, and replaces the forwards of neurons and layers meanwhile."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils import parametrize

from spikewright._util.returned import check_scan, wrong
from spikewright._util.text import with_article
from spikewright.errors import NetworkError, ShapeError
from spikewright.layers.batch_norm import default_norm
from spikewright.layers.batch_statistics import sync_share
from spikewright.layers.calls import DropoutCall, NormCall
from spikewright.layers.dropout import scan_shared
from spikewright.layers.feedback import Feedback
from spikewright.layers.own_forward import has_own_forward, intercept_dropout, intercept_norm
from spikewright.layers.recurrent import Recurrent
from spikewright.network.complaints import called_twice, is_transformed, not_called, splits_rows, takes_one
from spikewright.network.folded_time import FoldedTime
from spikewright.network.form import Form
from spikewright.network.hooks import Hooks
from spikewright.network.patched_forwards import Forward, Replacements, Weights, chained, run_patched
from spikewright.network.raised import naming, normalised
from spikewright.network.resuming import Resumed
from spikewright.network.run_options import RunOptions
from spikewright.network.sites import Sites
from spikewright.neurons import Neuron
from spikewright.synapses.interception import Interception, Interceptions
from spikewright.synapses.operations import Operation
from spikewright.synapses.synapse import LAYERS, SynapticInput, check_arrival, transmit
from spikewright.temporal import SiteState, State, Temporal, detach, is_static

_NO_TIME = FoldedTime(0)


class CallCounter:
    """Counts the calls of modules in one pass: every call of a module has a state of its own."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()

    def site(self, name: str) -> str:
        """Return the name of the next call of a module: `name`, `name#2`, ..."""
        self._calls[name] += 1
        return name if self._calls[name] == 1 else f"{name}#{self._calls[name]}"

    def clear(self) -> None:
        """Start another pass."""
        self._calls.clear()


class Run:
    """One pass over a batch of sequences, chunk by chunk, and the state it has reached.

    `Network.start` makes one; `Network.run` hides it.  A module that is called several times in one step has one state
    per call, under `name`, `name#2`, and so on.

    Args:
        sites: Modules of the network whose forward is replaced.
        state: State of an earlier run of the same sequences.  Dictionary `{layer: {name: tensor}}`; cut from its graph
            without `through_time`.  Default: None, which starts at rest.
        options: What takes part in the run.  Instance of `RunOptions`.  Default: `RunOptions()`.

    Attributes:
        state: State after the last step.  Dictionary `{layer: {name: tensor}}`.
        outputs: Form of several outputs, which `advance` returns packed as one; `None` for one.

    >>> import torch, spikewright as sw
    >>> net, x = sw.Network(torch.nn.Sequential(sw.IF())), torch.full((4, 1, 1), 0.5)
    >>> run = net.start(x)
    >>> torch.cat([run.advance(chunk) for chunk in x.split(2)]).flatten().tolist()
    [0.0, 1.0, 0.0, 1.0]
    >>> run.rates()
    {'0': 0.5}
    """

    def __init__(
        self,
        sites: Sites,
        state: State | None = None,
        options: RunOptions = RunOptions(),  # noqa: B008  (a frozen value)
    ) -> None:
        self._sites, self._recurrent, self._options = sites, sites.recurrent, options
        self.state: State = dict(state or {}) if options.through_time else detach(state or {})
        self.outputs: Form | None = None
        self._first = True
        self._resumed = Resumed(self.state, sites) if state else None
        self._on_current, self._on_spikes, self._on_output, self._on_layer, self._on_scan = (
            _overridden(options.hooks, name) for name in ("on_current", "on_spikes", "on_output", "on_layer", "on_scan")
        )
        self._folded, self._batch = _NO_TIME, 1
        self._calls = CallCounter()
        self._weights = Weights()
        self._keeps_weights = False
        self._interceptions = Interceptions()
        self._binary: dict[str, bool] = {}
        self._emitted: dict[str, Tensor] = {}
        self._fired: dict[str, Tensor] = {}
        self._seen = 0

    @property
    def module(self) -> nn.Module:
        """The module that runs."""
        return self._sites.module

    @property
    def in_layer(self) -> bool:
        """True while a layer with a weight, batch norm or dropout does the operation that the run does for it."""
        active = self._interceptions.innermost
        return active is not None and active.paused

    @property
    def steps(self) -> int:
        """Number of steps that this run has done."""
        return self._seen

    def advance(self, x: Tensor) -> Tensor:
        """Run the next steps, and move `state` on.

        Args:
            x: Input of these steps.  Tensor `[time, batch, *feature]`.

        Returns:
            The output, `[time, batch, *output]`.

        Raises:
            ShapeError: `x` does not fit a layer, or has another batch than the state.
            NetworkError: The module does not return one tensor with the rows of its input.
        """
        sites = self._sites
        replacements = partial(self._replaced, len(x) > 1 and is_static(x))
        run = partial(run_patched, sites.module, sites.identities, replacements, self._interceptions)
        if torch.compiler.is_compiling() or self._options.tracer is not None:
            return run(partial(self._steps, x))
        with naming(sites.module):
            return run(partial(self._steps, x))

    def detach(self) -> None:
        """Cut the state from the graph of the steps so far, so that they can be freed."""
        self.state = detach(self.state)

    def keep_weights(self, keep: bool) -> None:
        """Set whether parametrized weights are computed once for all coming steps, in which nothing is learned.

        Args:
            keep: True computes them once; False at every call of `advance`.
        """
        self._keeps_weights = keep
        self._weights.clear()

    def rates(self) -> dict[str, float]:
        """Return the firing rate of every neuron layer since the start of this run, in spikes per neuron and step.

        A spike counts as one whatever it is sent as; noise that is added to the output does not count.
        """
        lengths, steps = self._options.lengths, float(self._seen)
        if lengths is not None:
            steps = lengths.each.clamp_max(self._seen).double().mean().item()
        return {site: (fired / steps).item() for site, fired in self._fired.items()}

    def _steps(self, x: Tensor) -> Tensor:
        self.state = dict(self.state)  # what was handed out stays as it is
        anew = bool(self._sites.parametrizations) and not self._keeps_weights
        if anew:
            self._weights.clear()
        output = torch.cat([self._pass(step) for step in x.split(1)]) if self._recurrent else self._pass(x)
        if anew:
            self._weights.clear()
        return output

    def _pass(self, x: Tensor) -> Tensor:
        self._calls.clear()
        self._folded, self._batch = FoldedTime(len(x)), x.shape[1]
        output, self.outputs = self._sites.call(self._folded.fold(x.clone() if self._options.writes_input else x))
        for site, value in self._emitted.items():
            sent = {"last": value if self._options.through_time else value.detach()}
            if self._resumed is not None:
                self._resumed.check(site, value.unsqueeze(0), sent)
            self.state[site] = sent
            if self._options.record is not None:
                self._options.record.source(site, self._sites.sources[site], value.unflatten(0, (len(x), -1)))
        self._emitted.clear()
        self._folded = _NO_TIME  # lets go of what was seen
        output = output.unflatten(0, x.shape[:2])
        if self._on_output is not None:
            output = self._sent("on_output", self._on_output(output), output)
        if self._options.lengths is not None:
            output = self._options.lengths.masked(output, self._seen)
        self._seen += len(x)
        if self._resumed is not None:
            for site in self._resumed.left():
                del self.state[site]
        self._first, self._resumed = False, None  # methods of others are checked once per run
        return output

    def _replaced(self, static: bool) -> Replacements:
        """Return what replaces the forwards of modules, for an input that repeats one step or one that does not."""
        found = chained(self._places(self._listens or self._options.spikes_as_bytes or static))
        lists = self._sites.parametrizations.values()
        if torch.compiler.is_compiling() or not lists:
            return found
        return [*self._weights.replacements(lists), *found]

    def _places(self, layers: bool) -> Iterator[tuple[nn.Module, Forward]]:
        for name, module in self._sites.temporal.items():
            yield module, partial(self._at_temporal, name, module)
        for name, module in self._sites.synapses.items() if layers else ():
            if self._listens or name not in self._options.recomputed:
                yield module, partial(self._at_layer, name)
        for name, source in self._sites.sources.items():
            yield source, partial(self._at_source, name)
        if (tracer := self._options.tracer) is not None:
            for name, module in self._sites.module.named_modules():
                if not isinstance(module, parametrize.ParametrizationList):
                    yield module, partial(tracer, name, module)

    @property
    def _listens(self) -> bool:
        return self._options.hooks is not None or bool(self._options.observers)

    def _unfolded(self, name: str, module: nn.Module, x: Tensor) -> Tensor:
        """Return the rows that a module was given, `[time * batch, *feature]`, as a chunk `[time, batch, *feature]`."""
        if not torch.compiler.is_compiling() and is_functorch_wrapped_tensor(x):
            raise is_transformed(name, module)
        found = x.shape[0] if x.dim() else 0
        if not found or found % (self._folded.steps * self._batch):
            raise splits_rows(name, module, found, self._folded.steps, self._batch)
        return self._folded.unfold(x)

    def _carried(self, site: str, chunk: Tensor) -> SiteState:
        """Return what a site carries into a chunk `[time, batch, *feature]`."""
        carried = self.state.get(site, {})
        for name, value in carried.items():
            if value.dim() and value.shape[0] != chunk.shape[1]:
                raise ShapeError(
                    f"'{site}' carries {with_article(name)} of shape {list(value.shape)}, but a batch of "
                    f"{chunk.shape[1]} samples arrived. A sequence keeps its batch from the first step to the last: "
                    "start a new one with state=None, or drop the same samples from the state."
                )
        return carried

    def _at_rest(self, name: str, feedback: Feedback, chunk: Tensor) -> SiteState:
        """Return what a feedback connection sends back at the first step: zeros, or nothing at all."""
        if feedback.first == "nothing" or self._options.sent is None:
            return {}
        if name not in self._options.sent:
            raise not_called(name, feedback, self._sites.sources[name])
        shape, kind = self._options.sent[name]
        return {"last": torch.zeros(chunk.shape[1], *shape, dtype=kind, device=chunk.device)}

    def _at_temporal(
        self, name: str, module: nn.Module, forward: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        plain = self._options.normalise is default_norm and sync_share() is None
        if not isinstance(module, Neuron) and has_own_forward(module, forward, default=plain):
            return self._at_own(name, module, forward, *args, **kwargs)
        x, site, binary = _one(name, module, args, kwargs), self._calls.site(name), self._is_binary(name, module)
        x = x if binary else _in_full(x)
        chunk = self._unfolded(name, module, x.clone() if site in self._options.overwritten else x)
        fed_back = isinstance(module, Feedback)  # the same at all of its places
        state = (
            self._carried(name, chunk) or self._at_rest(name, module, chunk) if fed_back else self._carried(site, chunk)
        )
        y, state = self._processed(site, module, forward, chunk, state)
        if self._resumed is not None:
            self._resumed.check(site, chunk, state)
        if state and not fed_back:
            self.state[site] = state
        if not isinstance(module, Neuron):
            return self._folded.fold(y)
        y, potential = y if isinstance(y, tuple) else (y, None)
        if self._options.record is not None:
            self._options.record.neuron(site, module, chunk, y)
        if self._options.count and module.spiking:
            self._count_spikes(site, y if binary else module.spike_counts(y, state))
        sent = y if self._on_spikes is None else self._sent("on_spikes", self._on_spikes(site, y), y)
        folded = self._folded.fold(sent, spikes=binary and self._options.spikes_as_bytes)
        for observer in self._options.observers:
            observer.neuron(site, x, folded)
        if potential is None:
            return folded
        read = self._folded.fold(potential)
        for observer in self._options.observers:
            observer.potential(site, read)
        return folded, read  # type: ignore[return-value]

    def _processed(
        self, site: str, module: nn.Module, forward: Callable[[Tensor], Tensor], chunk: Tensor, state: SiteState
    ) -> tuple[Tensor, SiteState]:
        """Return what a module that sees time makes of a chunk, and what it carries on."""
        if isinstance(module, _BatchNorm):
            return normalised(self._options.normalise, site, module, module, forward, chunk), state
        if isinstance(module, Temporal):
            return self._scan(site, module, chunk, state)
        assert isinstance(module, _DropoutNd)  # Sites.temporal holds nothing else
        return scan_shared(module, chunk, state)

    def _is_binary(self, name: str, module: nn.Module) -> bool:
        if name not in self._binary:
            self._binary[name] = isinstance(module, Neuron) and module.binary
        return self._binary[name]

    def _count_spikes(self, site: str, spikes: Tensor) -> None:
        with torch.no_grad():
            if self._options.lengths is not None:
                spikes = self._options.lengths.masked(spikes, self._seen)
            fired = spikes.mean(dtype=torch.float32) * len(spikes)
        self._fired[site] = self._fired[site] + fired if site in self._fired else fired

    def _at_own(
        self, name: str, module: nn.Module, forward: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Run the forward of a batch norm or dropout once, with its operation done for every step."""

        def normalise(call: NormCall, rows: Tensor) -> Tensor:
            chunk, site = self._unfolded(name, module, rows), self._calls.site(name)
            return self._folded.fold(normalised(self._options.normalise, site, module, call, call, chunk))

        def drop(call: DropoutCall, rows: Tensor) -> Tensor:
            site, chunk = self._calls.site(name), self._unfolded(name, module, rows)
            carried = self._carried(site, chunk)
            if isinstance(module, Temporal):
                y, state = module.scan(chunk, carried, self._options.through_time)
            else:
                y, state = scan_shared(call, chunk, carried)
            self.state[site] = state
            return self._folded.fold(y)

        x = _in_full(_one(name, module, args, kwargs))
        if isinstance(module, _BatchNorm):
            return intercept_norm(self._interceptions.active, name, module, forward, x, normalise)
        assert isinstance(module, _DropoutNd)  # has_own_forward says so of nothing else
        return intercept_dropout(self._interceptions.active, name, module, forward, x, drop)

    def _scan(self, site: str, module: Temporal, chunk: Tensor, state: SiteState) -> tuple[Tensor, SiteState]:
        grads, scan = torch.is_grad_enabled(), module.scan
        if isinstance(module, Neuron):
            scan = scan if self._on_scan is None else partial(self._on_scan, site, module)
            grads = grads and not self._options.cut
            if self._on_current is not None:
                chunk = self._sent("on_current", self._on_current(site, chunk), chunk)
        try:
            with torch.set_grad_enabled(grads):
                answer = self._going_on(site, chunk, scan, chunk, state, self._options.through_time)
        except NotImplementedError as error:
            if not chunk.is_complex():
                raise
            raise _reads_real(site, module, error) from error
        return check_scan(module, answer, chunk) if self._first and type(module).scan is not Neuron.scan else answer

    def _sent(self, method: str, answer: Tensor, given: Tensor) -> Tensor:
        """Return what a hook made of a tensor, which keeps its shape."""
        if self._first and not (isinstance(answer, Tensor) and answer.shape == given.shape):
            raise wrong(
                self._options.hooks, method, f"a tensor of the shape of what it is given, {list(given.shape)}", answer
            )
        return answer

    def _going_on(self, site: str, chunk: Tensor, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function of a layer; an error says so where the layer goes on from a state that was given."""
        if self._resumed is None or not (given := self._resumed.state.get(site)):
            return function(*args)
        with self._resumed.at(site, chunk, lambda: function(*({} if arg is given else arg for arg in args))):
            return function(*args)

    def _at_layer(self, name: str, forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        if not self._listens and not any(isinstance(x, Tensor) and self._is_special(x) for x in args):
            return forward(*args, **kwargs)
        with self._interceptions.active(Interception(LAYERS, partial(self._transmit, name))):
            return forward(*args, **kwargs)

    def _is_special(self, x: Tensor) -> bool:
        """True if a layer that sees `x` has something to gain: `x` repeats a step, or is kept as bytes."""
        return self._folded.repeats(x) or self._folded.holds_spikes(x)

    def _transmit(self, name: str, operation: Operation, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        site = self._calls.site(name)
        chunk = self._unfolded(name, self._sites.synapses[name], x)
        operation.check(site, x, weight)
        arrival = SynapticInput(chunk) if self._options.hooks is None else self._at_hook(site, operation, chunk, weight)
        as_bytes = self._options.spikes_as_bytes and self._folded.holds_spikes(x)
        sent = transmit(operation, arrival, weight, bias, as_bytes)
        if self._on_layer is not None:
            sent = self._sent("on_layer", self._on_layer(site, operation, weight, bias, sent), sent)
        current = self._folded.fold(sent)
        for observer in self._options.observers:
            observer.synapse(site, operation, x, weight, current)
        return current

    def _at_hook(self, site: str, operation: Operation, chunk: Tensor, weight: Tensor) -> SynapticInput:
        """Return what the hooks make of the input of a layer, and keep what they carry on."""
        assert self._options.hooks is not None
        carried = self._carried(site, chunk)
        answer = self._going_on(site, chunk, self._options.hooks.on_weight, site, operation, chunk, weight, carried)
        if self._first and not self._options.hooks.checks_answers:
            answer = check_arrival(self._options.hooks, answer, operation, chunk, weight)
        arrival, carried = answer
        if self._resumed is not None:
            self._resumed.check(site, chunk, carried)
        if carried:
            self.state[site] = carried
        return arrival

    def _at_source(self, name: str, forward: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        feedback = self._sites.temporal[name]
        if name in self._emitted and isinstance(feedback, Recurrent):
            raise called_twice(name, feedback)
        self._emitted[name] = forward(*args, **kwargs)
        return self._emitted[name]


def _reads_real(site: str, module: Temporal, error: Exception) -> NetworkError:
    return NetworkError(
        f"'{site}' ({type(module).__name__}) was given complex numbers, with which it does something that is known for "
        f"real ones only: {str(error).partition(chr(10))[0]}. Read them as real in front of it, such as z.real, "
        "z.abs(), or torch.view_as_real(z).flatten(-2)."
    )


def _one(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Return the one tensor that a module was called with, by whatever name."""
    given = [*args, *kwargs.values()]
    if len(given) != 1 or not isinstance(given[0], Tensor):
        raise takes_one(name, module, [type(value).__name__ for value in given])
    return given[0]


def _overridden(hooks: Hooks | None, name: str) -> Callable[..., Any] | None:
    """Return a hook, or `None` if it is the identity that hooks have by default."""
    hook = getattr(hooks, name, None)
    return None if getattr(hook, "__func__", None) is getattr(Hooks, name) else hook


def _in_full(x: Tensor) -> Tensor:
    """Undo autocast: statistics, and states of a scan that may not keep them in full precision by itself."""
    half = x.dtype in (torch.float16, torch.bfloat16) and torch.is_autocast_enabled(x.device.type)
    return x.float() if half else x
