"""Contents of modules that passes change: states, which are refused, and notes that no output depends on."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from spikewright.network.complaints import keeps_state, kept_for_evaluation, set_by_the_first
from spikewright.network.probing.held import Held, Place, add_one, moved, set_ahead
from spikewright.network.probing.inputs import Rows
from spikewright.network.probing.live import LiveSpikes
from spikewright.network.probing.passes import Pass, Passes

SIZES = (2.0, 4.0, 8.0, 16.0, 0.5, -4.0)
"""Factors of inputs and spikes, which drive states across thresholds."""
REPEATS = 3
"""Number of repetitions of an input of one size."""
CALLS = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
"""Numbers of calls by which changing numbers are set ahead, one after the other."""


@dataclass(frozen=True)
class Notes:
    """Changes of two equal passes.

    Attributes:
        module: The network's module.
        start: Contents before the first pass.
        between: Contents between the passes.
        end: Contents after the second pass.
        written: Names of modules whose parameters were written to.
        rewritten: Buffers and other tensors that were written to, whatever their values are now.
    """

    module: nn.Module
    start: Held
    between: Held
    end: Held
    written: frozenset[str]
    rewritten: frozenset[Place] = frozenset()

    @cached_property
    def changed(self) -> frozenset[Place]:
        """Places that either pass has changed."""
        return moved(self.start, self.end) | self.changing

    @cached_property
    def changing(self) -> frozenset[Place]:
        """Places that the second pass has changed, so that later ones may too."""
        return moved(self.between, self.end)

    def check(
        self,
        passes: Passes,
        x: Tensor,
        other: tuple[Tensor, Rows],
        first: Pass,
        second: Pass,
        again: Callable[[], object],
    ) -> None:
        """Check that outputs do not depend on the changes.

        Args:
            passes: Repeats passes.
            x: Input of the two passes.
            other: Another input, and its rows.
            first: The first pass.
            second: The second pass.
            again: Puts back the contents before the first pass.

        Raises:
            NetworkError: A module keeps a state, or sets itself by the first input.
        """
        if self.changing or self.written:
            self._check_states(passes, x, first, second)
        if self.changed or self.written:
            again()
            passes.run(other[0], LiveSpikes(other[1]))
            passes.run(x, LiveSpikes(), first, set_by_the_first)

    def check_evaluation(self, passes: Passes, x: Tensor, again: Callable[[], object]) -> None:
        """Compare evaluation after training steps with evaluation without; arguments as in `check`.

        Raises:
            NetworkError: A module uses, in evaluation, statistics that it has gathered in training.
        """
        if not (self.changing or self.written or self.rewritten) or not any(m.training for m in self.module.modules()):
            return
        again()
        for _ in range(REPEATS):
            passes.run(x, LiveSpikes())
        self.module.eval()
        gathered = passes.run(x, LiveSpikes())
        again()
        self.module.eval()
        plain = passes.run(x, LiveSpikes(), gathered, kept_for_evaluation)
        if self.rewritten:  # their values may depend on something that has not changed yet, such as weights
            add_one(self.module, self.rewritten)
            passes.run(x, LiveSpikes(), plain, kept_for_evaluation)
        again()

    def _check_states(self, passes: Passes, x: Tensor, first: Pass, second: Pass) -> None:
        """Repeat the same input, with others in between, and set counters ahead.

        A state may be below a threshold, wait in a queue or count calls, and so not show in the second pass.
        """
        self._check_neurons(first, second)
        for size in SIZES:
            driven = size * x if x.dtype.is_floating_point else x
            try:
                then = passes.run(driven, LiveSpikes(size=size))
            except Exception:  # a module does not accept such values
                continue
            for _ in range(REPEATS):
                self._check_neurons(then, passes.run(driven, LiveSpikes(size=size), then, keeps_state))
            self._check_neurons(first, passes.run(x, LiveSpikes(), first, keeps_state))
        for calls in CALLS:
            if set_ahead(self.module, self.between, self.end, self.changing, calls):
                self._check_neurons(first, passes.run(x, LiveSpikes(), first, keeps_state))

    def _check_neurons(self, then: Pass, now: Pass) -> None:
        names = self.written | {name for name, _ in self.changing}
        for (name, a), (_, b) in zip(then.live.true, now.live.true):
            if name in names and not torch.equal(a, b):
                raise keeps_state(name, self.module.get_submodule(name))
