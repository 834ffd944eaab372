"""Learning from one batch: every update that the rule yields, over all processes."""

from copy import copy
from functools import partial
from typing import Any

import torch
from torch.utils._pytree import tree_map

from spikewright._util.share import Share
from spikewright.losses import Loss
from spikewright.network import Network
from spikewright.rules import Rule
from spikewright.train._evaluate import Measures, measured, weight_of
from spikewright.train.diagnose import first_not_finite
from spikewright.train.distributed import Ranks, average_buffers, total
from spikewright.train.job import Learned
from spikewright.train.source import first_tensor
from spikewright.train.step import Stepper


class BatchLearner:
    """Trains a network on batches with a rule.

    Args:
        net: `Network`.
        rule: `Rule`.
        loss: `Loss`.
        stepper: `Stepper` of the parameters of network and rule.
        measures: Measures by name.
        ranks: `Ranks` of this process.
    """

    def __init__(
        self, net: Network, rule: Rule, loss: Loss, stepper: Stepper, measures: Measures, ranks: Ranks
    ) -> None:
        self.net, self.rule, self.loss, self.stepper = net, rule, loss, stepper
        self._measures, self._ranks = measures, ranks
        self._share: Share | None = None

    def sharing(self, share: Share | None) -> "BatchLearner":
        """Return a learner of a batch of which this process has a share."""
        other = copy(self)
        other._share = share
        return other

    def __call__(self, x: Any, y: Any) -> Learned:
        """Train on one batch, of which x and y are the part of this process, and return a `Learned`.

        Args:
            x: Inputs. Shape `[time, batch, *feature]`.
            y: Targets. Shape `[batch, ...]`.

        Raises:
            NotFinite: A weight, the loss or the gradient is not finite; the weights are those before the update.
        """
        stepper, share = self.stepper, self._share or Share(first_tensor(x).shape[1])
        culprit = partial(first_not_finite, self.net, x)
        # An infinite weight before a neuron shows in neither loss nor gradient, and with loss scaling a NaN only skips
        # updates, so the weights themselves are checked.
        stepper.check_weights(culprit)
        lost, outputs, trouble = 0.0, [], None
        with stepper.autocast():
            updates = self.rule.updates(self.net, x, y, self.loss, backward=stepper.backward, share=share)
            for update in updates:
                lost += stepper.check("the loss", update.loss, culprit)
                stepper.update(share, culprit)
                outputs.append(update.output)
                if update.report is not None and not update.report.converged:
                    trouble = update.report.reason
        average_buffers(self.rule, self._ranks)
        output = tree_map(lambda *steps: torch.cat(steps), *outputs)
        found = {"": (0.0, weight_of(self.loss, output, y)), **measured(self._measures, output, y)}
        own = torch.tensor([*found.values()], dtype=torch.float64)
        (_, weight), *sums = total(own / (1 if share.divided else share.world), self._ranks).tolist()
        by_name = {name: (value, number) for name, (value, number) in zip(self._measures, sums, strict=True)}
        return Learned(lost, weight, by_name, trouble)
