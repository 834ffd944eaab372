"""Passes of a probe that are repeated and compared."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.errors import NetworkError, SpikewrightError
from spikewright.network.complaints import counts_rows, loops, mixes_samples
from spikewright.network.probing.draws import Draws
from spikewright.network.probing.generators import Movers, Position, position
from spikewright.network.probing.inputs import FIRST, MOVED, Rows
from spikewright.network.probing.live import LiveSpikes
from spikewright.network.probing.norms import alike
from spikewright.network.probing.trace import Complain, Trace
from spikewright.network.run import Run
from spikewright.network.run_options import RunOptions
from spikewright.network.sites import Sites


@dataclass(frozen=True)
class Pass:
    """A pass: the calls of modules, the true spikes of neurons, and the state of generators at the end."""

    trace: Trace
    live: LiveSpikes
    end: Position


def one_pass(sites: Sites, x: Tensor, live: LiveSpikes, tracer: Callable[..., Any]) -> None:
    """Run a network from rest, with spikes and norms that do not depend on other samples.

    Args:
        sites: Modules of the network whose forward a run replaces.
        x: Input, `[time, batch, *feature]`.
        live: Replaces the spikes of neurons.
        tracer: Called in place of the forward of every module, see `Run`.
    """
    with torch.enable_grad():  # because some modules compute differently without
        options = RunOptions(hooks=live, tracer=tracer, normalise=alike, count=False, writes_input=True)
        Run(sites, options=options).advance(x)


class Passes:
    """Repeats passes from the same random numbers.

    Args:
        sites: Modules of the network whose forward a run replaces.
        answered: Names of these modules.
        begin: Puts back the state from which a pass starts.
    """

    def __init__(self, sites: Sites, answered: frozenset[str], begin: Callable[[], object]) -> None:
        self._sites, self._answered, self.begin = sites, answered, begin

    def run(
        self,
        x: Tensor,
        live: LiveSpikes,
        then: Pass | None = None,
        complain: Complain | None = None,
    ) -> Pass:
        """Run a pass, and compare its calls with those of an earlier one, if given."""
        self.begin()
        trace = Trace(None, then.trace if then else None, None, complain, self._answered)
        one_pass(self._sites, x, live, trace)
        return Pass(trace, live, position())

    def draws(self, x: Tensor, start: Position, *passes: Pass) -> frozenset[str]:
        """Return the modules that draw random numbers past the operators of torch.

        Draws of another thread are not mistaken for theirs, because those leave other states every time.

        Args:
            x: Input of another pass, which is run if the generators have moved.
            start: State of the generators before every pass.
            passes: All passes so far.
        """
        ends = {each.end for each in passes}
        if ends == {start} or len(ends) > 1:
            return frozenset()
        self.begin()
        movers = Movers()
        one_pass(self._sites, x, LiveSpikes(), movers)
        return movers.innermost

    def check_samples(self, x: Tensor, other: Tensor, first: Pass, rows: Rows = MOVED) -> Pass:
        """Run a pass with the sample in other rows, check that nothing of it changes, and return the pass.

        Args:
            x: Input of the first pass.
            other: Input of this pass.
            first: The first pass.
            rows: Rows of `other`.

        Raises:
            NetworkError: A module mixes samples, or loops over them.
        """
        blamed: list[str] = []

        def complain(name: str, module: nn.Module) -> NetworkError:
            blamed.append(name)
            return mixes_samples(name, module)

        try:
            return self._elsewhere(other, rows, first, complain)
        except NetworkError:
            if not blamed:
                raise
            self._check_loop(x, first, blamed[0])
            with Draws() as drawn:
                again = self.run(x, LiveSpikes())
            if not drawn.kept:
                raise
            with Draws(drawn, rows):
                return self._elsewhere(other, rows, again, complain)

    def _elsewhere(self, other: Tensor, rows: Rows, first: Pass, complain: Complain) -> Pass:
        self.begin()
        layers = self._sites.synapses
        trace = Trace(None, first.trace, rows, complain, self._answered, trusted=True, layers=layers)
        live = LiveSpikes(rows)
        try:
            one_pass(self._sites, other, live, trace)
        except SpikewrightError:
            raise
        except Exception as error:
            if self._raises(other[:, : FIRST.count], type(error)):  # about values, then
                raise
            raise counts_rows(*trace.running[-1], error) from error
        return Pass(trace, live, position())

    def _raises(self, x: Tensor, kind: type[Exception]) -> bool:
        """Return True if a pass with so many rows as the first had raises an error of a class too."""
        try:
            self.run(x, LiveSpikes())
        except Exception as error:
            return type(error) is kind
        return False

    def _check_loop(self, x: Tensor, first: Pass, within: str) -> None:
        """Raise an error for a module inside another that is called more often with more rows."""
        try:
            more = self.run(torch.cat([x, x[:, :1]], 1), LiveSpikes())
        except Exception:  # a module does not accept that number
            return
        before, after = (Counter(call.name for call in seen.trace.calls) for seen in (first, more))
        for name in before:
            if name.startswith(f"{within}." if within else "") and after[name] > before[name]:
                found = f"was called {before[name]} times for {x.shape[1]} rows, and {after[name]} times for one more"
                raise loops(name, self._sites.module.get_submodule(name), found)
