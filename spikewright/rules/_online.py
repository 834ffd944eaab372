"""The loop of every rule that cuts credit between steps: run a chunk, learn from it, forget its graph."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from spikewright.errors import ConfigError
from spikewright.losses import Loss, LossOf
from spikewright.metrics.operations import Operations, Work
from spikewright.network import Network
from spikewright.rules._base import Backward, Rule, Update, one_backward, plain_backward
from spikewright.sites import Sites
from spikewright.solvers import Report
from spikewright.spatial import BP, Local, Spatial
from spikewright.spatial._base import Reach
from spikewright.spatial._credit import Credit
from spikewright.spatial._targets import reached
from spikewright.spatial.direct import Direct
from spikewright.temporal import State
from spikewright.wiring import Wiring


@dataclass(frozen=True)
class Segment:
    """Steps that run together: `start` to `stop`, with a graph if `learn`."""

    start: int
    stop: int
    learn: bool = True


class OnlineRule(Rule):
    """A rule whose steps are independent given the state, so memory does not grow with their number.

    Args:
        chunk: See `Rule`.
        spatial: How errors get from the output to the layers.
        local: Readouts and errors of every layer beside that.
    """

    loss_of: LossOf = "steps"
    through_time: bool = False
    updates_every_step: bool = False
    """Whether weights may change at every step, and not only at the end of the sequence."""

    def __init__(
        self,
        chunk: int | str | None,
        spatial: Spatial = BP(),  # noqa: B008  (it has no state)
        local: Local | None = None,
    ) -> None:
        super().__init__(chunk)
        if local is not None and local.intermediate is not None and not isinstance(spatial, Direct):
            raise ConfigError(
                f"{type(self).__name__}(local={local}) has an intermediate layer teach those in front of it through "
                f"matrices, but {type(spatial).__name__} has none. Use a way that does (DFA, DKP, OPZO), or Local() "
                "without an intermediate layer."
            )
        self.spatial, self.local = spatial, local

    def segments(self, steps: int, size: int) -> Iterator[Segment]:
        """Cut a sequence into pieces of at most `size` steps that run together."""
        for start in range(0, steps, size):
            yield Segment(start, min(start + size, steps))

    def check(self, wiring: Wiring, sites: Sites) -> None:
        if self.local is not None:
            self.local.check(wiring)
        if not self._plain:
            reached(wiring, self.local, self.spatial.route)

    def prepare(self, net: Network, x: Tensor) -> None:
        wiring = net.wiring(x)
        self._prepare(wiring, x, reached(wiring, self.local, self.spatial.route))

    def _prepare(self, wiring: Wiring, x: Tensor, targets: dict[str, Reach]) -> None:
        like = torch.empty(0, device=x.device, dtype=x.dtype if x.dtype == torch.float64 else torch.float32)
        if self.local is not None:
            self.local.prepare(wiring, like)
        self.spatial.prepare(wiring, like, targets)

    @property
    def _plain(self) -> bool:
        """Whether errors just go back as autograd sends them."""
        return isinstance(self.spatial, BP) and self.local is None

    @property
    def ideal(self) -> Rule | None:
        if self._plain:
            return None
        ideal = deepcopy(self)
        ideal.spatial, ideal.local = BP(), None
        return ideal

    def feedback_numbers(self, wiring: Wiring) -> int:
        local = 0 if self.local is None else sum(p.numel() for p in self.local.parameters())
        return local + (self.spatial.floats if self.spatial.cuts else super().feedback_numbers(wiring))

    def operations(self, work: Mapping[str, Work], wiring: Wiring, steps: int, report: Report | None) -> Operations:
        if not self.spatial.cuts:
            learning = one_backward(work, wiring)
        else:
            learning = Operations(0, sum(w.dense for w in work.values()) + self.spatial.products(wiring))
        local = 0 if self.local is None else 3 * sum(p.numel() for p in self.local.parameters())
        return steps * (learning + Operations(0, local))

    def reaches_as_bptt(self, parameter: str, wiring: Wiring, steps: int) -> bool:
        """Whether errors get to a parameter, or to the neurons it reaches, as in BPTT."""
        if steps > 1 and parameter in wiring.carried:
            return False
        return self._plain or (not wiring.receivers[parameter] and self.spatial.noise is None)

    def updates(
        self,
        net: Network,
        x: Tensor,
        y: Tensor,
        loss: Loss,
        state: State | None = None,
        backward: Backward = plain_backward,
    ) -> Iterator[Update]:
        net.check(self, loss, x, y)
        credit = self._credit(net, x)
        run = net.start(x, state, rule=self, part=credit)
        total = outputs = None
        for segment in self.segments(len(x), self.steps_at_once(net.wiring(x), x)):
            start, steps = segment.start, x[segment.start : segment.stop]
            value_of = partial(loss, y=y, steps=len(x), start=start)
            if credit is not None and segment.learn:
                terms_of = partial(loss.terms, y=y, steps=len(x), start=start)
                value, output = credit.learn(run, steps, start, value_of, terms_of, backward)
            else:
                with torch.set_grad_enabled(segment.learn):
                    output = run.advance(steps)
                    value = value_of(output)
                if segment.learn:
                    backward(value)
            run.detach()
            value, output = value.detach(), output.detach()
            if self.updates_every_step:
                yield Update(value, output, run.state, run)
                continue
            if total is None or outputs is None:
                # All of them at once: many small blocks that stay would keep the freed ones between them from use.
                total, outputs = torch.zeros_like(value), output.new_empty(len(x), *output.shape[1:])
            total += value
            outputs[segment.start : segment.stop] = output
        if total is not None and outputs is not None:
            yield Update(total, outputs, run.state, run)

    def _credit(self, net: Network, x: Tensor) -> Credit | None:
        """Return what takes part where errors do not just go back as autograd sends them."""
        if self._plain:
            return None
        if self.local is not None and not self.local.readouts:
            raise ConfigError(
                f"{type(self).__name__}(local={self.local}) trains readouts of its own, which no optimizer knows of "
                "yet. Call rule.prepare(net, x), and give the optimizer [*net.parameters(), *rule.parameters()]."
            )
        wiring = net.wiring(x)
        targets = reached(wiring, self.local, self.spatial.route)
        self._prepare(wiring, x, targets)
        return Credit(self.spatial, self.local, targets, net.word_of(self, x), wiring, net.sites.recurrent)

    def extra_repr(self) -> str:
        shown = "" if isinstance(self.spatial, BP) else f"spatial={self.spatial}, "
        shown += "" if self.local is None else f"local={self.local}, "
        return shown + super().extra_repr()
