"""The loop of rules without credit through time: run a chunk, learn from it, free its graph."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from spikewright._util.ranges import check_instance
from spikewright._util.real_numbers import is_continuous, real_type
from spikewright.errors import ConfigError
from spikewright.metrics.operations import Operations
from spikewright.network import Network
from spikewright.network.form import Input
from spikewright.network.hooks import Hooks
from spikewright.network.sites import Sites
from spikewright.network.wiring import Synapse, Wiring
from spikewright.rules._base import Rule, Update
from spikewright.rules._batch import Batch
from spikewright.rules._chunk_size import Chunk
from spikewright.rules._cost import Cost, Done
from spikewright.rules._traits import Traits
from spikewright.rules._weight_hooks import WeightHooks
from spikewright.spatial import BP, Local, Spatial
from spikewright.spatial._hooks import SpatialHooks
from spikewright.spatial._targets import target_specs
from spikewright.spatial.direct import Direct
from spikewright.synapses.synapse import SynapticInput
from spikewright.temporal import SiteState


@dataclass(frozen=True)
class ChunkSpan:
    """Steps that run together: `start` up to but not including `stop`, with a graph if `learn` is True."""

    start: int
    stop: int
    learn: bool = True


class OnlineRule(Rule):
    """Base of rules that treat steps independently, given the state before them.

    Activation memory is that of one chunk, whatever the number of steps.  A subclass may override `on_weight`, which
    decides what weight gradients are taken at, and `chunks`, which decides which steps run together.

    Args:
        chunk: Steps that run together, which trades memory for speed.  At least 1; `None` is the whole sequence, "root"
            the square root of its length, "auto" as many steps as fit 1 GiB of working memory, and a size such as
            "256MiB" as many as fit that; if not even one does, it is refused.
        spatial: How errors reach the layers within a step, an object of `spikewright.spatial`: `BP` (backpropagation),
            `FA`, `SignSymmetric`, `DFA`, `DKP`, `ZO` or `OPZO`.  Default: BP().
        local: A `spikewright.spatial.Local`, which gives every layer of neurons a trained readout and an error of its
            own.  Default: None, no local errors.

    Raises:
        ConfigError: `chunk` is neither a whole number of at least 1, nor None, nor a known text; `spatial` or `local`
            is not an object of its class; `local` names an intermediate layer and `spatial` has no
            feedback matrices.
    """

    traits: Traits = Traits(
        loss="steps", credit_through_time=False, gradients="layer hook", memory="constant", ragged=True
    )

    def __init__(
        self,
        chunk: Chunk,
        spatial: Spatial = BP(),  # noqa: B008  (it has no state)
        local: Local | None = None,
    ) -> None:
        super().__init__(chunk)
        name = type(self).__name__
        check_instance(name, "spatial", spatial, Spatial, "sw.spatial.BP()")
        if local is not None:
            check_instance(name, "local", local, Local, "sw.spatial.Local()")
        if local is not None and local.intermediate is not None and not isinstance(spatial, Direct):
            raise ConfigError(
                f"{type(self).__name__}(local={local}) has an intermediate layer teach those in front of it through "
                f"matrices, but {type(spatial).__name__} has none. Use one that has them (DFA, DKP, OPZO), or Local() "
                "without an intermediate layer."
            )
        self.spatial, self.local = spatial, local
        self.traits = replace(self.traits, ragged=self.traits.ragged and spatial.ragged)
        if type(self).on_weight is not OnlineRule.on_weight or not isinstance(spatial, BP):
            self.traits = replace(self.traits, by_layer=True)

    def on_weight(self, layer: Synapse, x: Tensor, carried: SiteState) -> tuple[SynapticInput, SiteState]:
        """Return what a layer transmits and takes its weight gradient at, and the values it carries on.

        Args:
            layer: The layer's place in the network.
            x: Its input, `[time, batch, *feature]`.
            carried: What this call of the layer carried out of the last chunk, tensors by name; empty at the start of a
                sequence.
        """
        return SynapticInput(x), carried

    def chunks(self, steps: int, size: int) -> Iterator[ChunkSpan]:
        """Yield the chunks of a sequence.

        Args:
            steps: Length of the sequence.  At least 1.
            size: Largest number of steps per chunk.  At least 1.
        """
        for start in range(0, steps, size):
            yield ChunkSpan(start, min(start + size, steps))

    def check(self, wiring: Wiring, sites: Sites) -> None:
        if self.local is not None:
            self.local.check(wiring)
            if not self.local.readouts:
                raise ConfigError(
                    f"{type(self).__name__}(local={self.local}) trains readouts of its own, which no optimizer knows "
                    "of yet. Call rule.prepare(net, x), and give the optimizer [*net.parameters(), "
                    "*rule.parameters()]."
                )
        if not self._plain:
            target_specs(wiring, self.local, self.spatial.route)

    def prepare(self, net: Network, x: Input) -> None:
        super().prepare(net, x)
        if self._plain:
            return
        net, x = net.given(x)
        wiring = net.wiring(x)
        targets = target_specs(wiring, self.local, self.spatial.route)
        kinds = (real_type(p.dtype) for p in net.module.parameters() if is_continuous(p))
        widest = max(kinds, key=_width, default=real_type(x.dtype))
        like = torch.empty(0, device=x.device, dtype=torch.float64 if widest == torch.float64 else torch.float32)
        if self.local is not None:
            self.local.prepare(wiring, like)
        self.spatial.prepare(wiring, like, targets)

    @property
    def _plain(self) -> bool:
        """True if errors go back by plain autograd."""
        return isinstance(self.spatial, BP) and self.local is None

    @property
    def reference_rule(self) -> Rule | None:
        """The same rule with backpropagation through layers; `None` if it is this one, whose reference is BPTT."""
        if self._plain:
            return None
        reference = deepcopy(self)
        reference.spatial, reference.local = BP(), None
        return reference

    def random_parts(self, steps: int) -> tuple[str, ...]:
        """Return what the rule draws random numbers for in every sequence, in words; `()` if for nothing.

        Args:
            steps: Length of the sequences.  At least 1.
        """
        return () if self.spatial.noise is None else (f"the noise of {type(self.spatial).__name__}",)

    def cost(self, done: Done) -> Cost | None:
        step, carrying, needed = done.backward, done.weights_crossed, done.behind
        if self.spatial.cuts:
            sent = self.spatial.products(done.wiring, done.taught)
            step = Operations(0, done.at_weights + done.between_neurons + sent)
            carrying, needed = self.spatial.floats, done.taught
        if self.local is not None:
            step += Operations(0, self.local.products(needed))
            carrying += sum(p.numel() for p in self.local.parameters())
        return Cost(done.steps * step, carrying)

    def reaches_as_bptt(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        """Return True if errors get to a parameter, or to the neurons it reaches, as in BPTT.

        Args:
            parameter: Name of the parameter.
            wiring: Wiring of the network.
            steps: Length of the sequences.  At least 1.
        """
        other_chunks = parameter in wiring.carried or wiring.moving or wiring.random
        if parameter in wiring.unvouched or (steps > 1 and other_chunks):
            return False
        if self._plain:
            return True
        if wiring.receivers[parameter] or self.spatial.noise is not None:
            return False
        return not any(self.spatial.replaces(wiring.synapses[layer]) for layer in wiring.passes[parameter])

    def learn(self, batch: Batch) -> Iterator[Update]:
        x, loss, wiring = batch.x, batch.loss, batch.wiring
        hooks = self._hooks(wiring)
        credit = hooks if isinstance(hooks, SpatialHooks) else None
        run = batch.start(hooks, through_time=False)
        total = outputs = None
        for chunk in self.chunks(len(x), batch.steps_at_once(self)):
            start, steps = chunk.start, x[chunk.start : chunk.stop]
            value_of = partial(loss, y=batch.y, steps=len(x), start=start)
            if credit is not None and chunk.learn:
                terms_of = partial(loss.terms, y=batch.y, steps=len(x), start=start)
                value, output = credit.learn(run, steps, start, value_of, terms_of, batch.backward)
            else:
                with torch.set_grad_enabled(chunk.learn):
                    output = run.advance(steps)
                    value = value_of(output)
                if chunk.learn:
                    batch.backward(value)
            run.detach()
            value, output = value.detach(), output.detach()
            if self.traits.updates == "every step":
                yield Update(value, output, run.state, run)
                continue
            if total is None or outputs is None:
                # All of them at once: many small blocks that stay would keep the freed ones between them from use.
                total, outputs = torch.zeros_like(value), output.new_empty(len(x), *output.shape[1:])
            total += value
            outputs[chunk.start : chunk.stop] = output
        if total is not None and outputs is not None:
            yield Update(total, outputs, run.state, run)

    def _hooks(self, wiring: Wiring) -> Hooks | None:
        own = self._weight_hooks(wiring)
        if self._plain:
            return own
        targets = target_specs(wiring, self.local, self.spatial.route)
        return SpatialHooks(self.spatial, self.local, targets, own or Hooks(), wiring, wiring.sites.recurrent)

    def _weight_hooks(self, wiring: Wiring) -> Hooks | None:
        """Return the hooks of the rule without those of `spatial` and `local`; `None` if there are none."""
        return None if type(self).on_weight is OnlineRule.on_weight else WeightHooks(self.on_weight, wiring)

    def extra_repr(self) -> str:
        shown = "" if isinstance(self.spatial, BP) else f"spatial={self.spatial}, "
        shown += "" if self.local is None else f"local={self.local}, "
        return shown + super().extra_repr()


def _width(dtype: torch.dtype) -> int:
    return dtype.itemsize
