"""What a ranking metric becomes when true facts are missing: a simulator, and what it gives on average."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright._util.ranges import MOST, check_count, check_flag, check_within
from spikewright.errors import ConfigError, InputError
from spikewright.graph.open_world import weights

EULER = 0.5772156649015329
"""The limit of 1 + 1/2 + ... + 1/n - ln n."""


@dataclass(frozen=True)
class SimulatedQueries:
    """Simulated queries.

    Attributes:
        test: True where an answer is in the test set, `[runs, A]`; the others are missing.
        top: True where the model ranks it above all that is false, `[runs, A]`.
        ranks: Its filtered rank, `[runs, A]`; it means something where `test` and `top` are.
    """

    test: Tensor
    top: Tensor
    ranks: Tensor

    def metric(self, kind: str) -> Tensor:
        """Return the metric of each run that has a test answer, `[any]`; answers that are not on top add nothing."""
        count = self.test.sum(1)
        worth = (weights(self.ranks, kind) * (self.test & self.top)).sum(1)
        return (worth / count)[count > 0]


@dataclass(frozen=True)
class OpenWorld:
    r"""A query with A true answers, of which the test set holds some and nobody knows the others.

    A model of strength :math:`\ell` puts each answer above all that is false with that probability, in random order.
    With :math:`\rho` the correlation of "is missing" and "is on top", and :math:`\alpha` the density, the probability
    is for answers in the test set and for missing ones

    .. math::
        \ell_t = \ell - \rho \sqrt{\ell(1-\ell)(1-\alpha)/\alpha}, \qquad
        \ell_m = \ell + \rho \sqrt{\ell(1-\ell)\alpha/(1-\alpha)},

    cut to [0, 1].  With X missing answers on top, the test answers on top have rank 1 to X + 1, each as likely:

    .. math:: E[w] = \ell_t\, E_X\Big[\frac1{X+1} \sum_{k=1}^{X+1} w(k)\Big].

    Exact when: answers below the false ones are worth nothing.  Flat metrics see them a little in real data.

    Args:
        answers: Number A of true answers, those of the training set not counted, from 1 to 10**6.
        density: :math:`\alpha`, probability that an answer is in the test set, in (0, 1]; queries that have none are
            left out.
        correlation: :math:`\rho`, in [-1, 1]; below 0 the model favours what the test set holds.  Default: 0.0.
        exactly: True if the test set holds `answers * density` answers, no more and no less.  Default: False.

    Raises:
        ConfigError: An argument is out of range.

    Reference:
        Yang, Lin and Zhang, Rethinking Knowledge Graph Evaluation Under the Open-World Assumption, NeurIPS 2022.

    >>> from spikewright.graph import OpenWorld
    >>> round(OpenWorld(answers=43, density=0.5).expected("mrr", 0.5), 4)
    0.1357
    """

    answers: int
    density: float
    correlation: float = 0.0
    exactly: bool = False

    def __post_init__(self) -> None:
        check_count("OpenWorld", "answers", self.answers, "a query has at least one answer", most=MOST)
        check_within("OpenWorld", "density", self.density, "(0, 1]", "it is the probability to be in the test set")
        check_within("OpenWorld", "correlation", self.correlation, "[-1, 1]", "correlations lie in [-1, 1]")
        check_flag("OpenWorld", exactly=self.exactly)
        held = self.answers * self.density
        if self.exactly and (abs(held - round(held)) > 1e-9 or round(held) < 1):
            raise ConfigError(
                f"The test set was to hold exactly {self.density} of {self.answers} answers, which is {held}. Give a "
                "density that makes it a whole number, and 1 at least."
            )

    def strengths(self, strength: float) -> tuple[float, float]:
        """Return the probability to be on top of a test answer and of a missing one, for a model of this strength."""
        if not 0 <= strength <= 1:
            raise InputError(f"The strength of a model is a probability, and {strength} was given.")
        if self.density == 1:
            return strength, strength
        spread = self.correlation * math.sqrt(strength * (1 - strength))
        odds = math.sqrt(self.density / (1 - self.density))
        on_test, on_missing = strength - spread / odds, strength + spread * odds
        return min(max(on_test, 0.0), 1.0), min(max(on_missing, 0.0), 1.0)

    def expected(self, kind: str, strength: float) -> float:
        """Return the exact mean of a metric of `open_world.weights` over queries."""
        on_test, on_missing = self.strengths(strength)
        ranks = torch.arange(1, self.answers + 2, dtype=torch.float64)
        worth = weights(ranks, kind).cumsum(0) / ranks
        return on_test * float(worth @ self._missing_on_top(on_missing))

    def _missing_on_top(self, on_missing: float) -> Tensor:
        """Return the probabilities of 0 to A missing answers on top, where there is a test answer."""
        if self.exactly:
            missing = self.answers - round(self.answers * self.density)
            return torch.nn.functional.pad(binomial(missing, on_missing), (0, self.answers - missing))
        none = (1 - self.density) ** self.answers
        every = binomial(self.answers, (1 - self.density) * on_missing)
        return (every - none * binomial(self.answers, on_missing)) / (1 - none)

    def approximate_mrr(self, strength: float) -> float:
        r"""Return the mean MRR in closed form, good where many missing answers are on top:

        .. math:: \frac{\ell_t}{\ell_m} \cdot \frac{\ln(\ell_m (1-\alpha)(A+2)) + \gamma}{(A+1)(1-\alpha)}.

        Raises:
            InputError: No missing answer is ever on top.
        """
        on_test, on_missing = self.strengths(strength)
        if self.density == 1 or on_missing == 0:
            raise InputError(
                f"MRR grows with the logarithm of the number of missing answers on top, and at density {self.density} "
                f"and strength {strength} there are none. Take `expected`."
            )
        missing = 1 - self.density
        logarithm = math.log(on_missing * missing * (self.answers + 2)) + EULER
        return on_test / on_missing * logarithm / ((self.answers + 1) * missing)

    def draw(self, strength: float, runs: int, generator: torch.Generator) -> SimulatedQueries:
        """Simulate queries; answers are in the order of the model, which says nothing of which are missing."""
        on_test, on_missing = self.strengths(strength)
        first, second = torch.rand(
            2, runs, self.answers, generator=generator, device=generator.device, dtype=torch.float64
        )
        held = first.argsort(1).argsort(1) < round(self.answers * self.density)
        test = held if self.exactly else first < self.density
        top = second < torch.where(test, on_test, on_missing)
        return SimulatedQueries(test, top, 1 + (top & ~test).cumsum(1))

    def strength_of(self, kind: str, observed: float) -> float:
        """Return the strength at which the mean of a metric is `observed`, by bisection.

        Hits@k hardly depend on strength where many answers are missing: then the strength is hardly determined.

        Raises:
            ConfigError: The correlation is negative, so that several strengths may give the same value.
            InputError: No strength gives this value.
        """
        if self.correlation < 0:
            raise ConfigError(
                f"Strength was to be read from {kind!r} at correlation {self.correlation}, where stronger models may "
                "have lower values. Give a correlation of 0 or more."
            )
        low, high = 0.0, 1.0
        if not 0 <= observed <= self.expected(kind, high) * (1 + 1e-12):
            raise InputError(
                f"No model of this world has {kind!r} = {observed}; the strongest has "
                f"{self.expected(kind, high):.6g} on average. Assume fewer missing answers."
            )
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.expected(kind, middle) < observed else (low, middle)
        return high

    def elasticity(self, kind: str, strength: float) -> float:
        r"""Return :math:`d \ln E / d \ln \ell`: by how many percent a metric grows when strength grows by one.

        About :math:`1/(\ln n + \gamma)` for MRR with n missing answers on top, 1 - p for power p, 0 for Hits@k.

        Raises:
            InputError: The metric is 0 there.
        """
        low, high = strength * (1 - 1e-5), min(strength * (1 + 1e-5), 1.0)
        below, above = self.expected(kind, low), self.expected(kind, high)
        if min(below, above) <= 0:
            raise InputError(f"The elasticity of {kind!r} at strength {strength}, where it is 0, does not exist.")
        return math.log(above / below) / math.log(high / low)


def variance_bound(strength: float, test: int, missing: int) -> float:
    r"""Return a lower bound on the variance of the MRR of one query with N test and M missing answers, uncorrelated.

    .. math::
        \frac{1-\ell}{\ell N} \Big(\frac{\ln(\ell(M+2)) + \gamma}{M+1}\Big)^2
        + \frac{3}{8(M+1)N - 19 / (16 \ell (M+1)(M+2))}

    It holds where :math:`\ell M` is 5 or more, and is loose there, by a factor of two to five at N = M = 20; with fewer
    missing answers on top the variance may be far below it.  Simulated queries tell the variance itself.
    """
    share = missing + 1
    spread = (1 - strength) / (strength * test) * ((math.log(strength * (missing + 2)) + EULER) / share) ** 2
    return spread + 3 / (8 * share * test - 19 / (16 * strength * share * (missing + 2)))


def binomial(trials: int, probability: float) -> Tensor:
    """Return the probabilities of 0 to `trials` successes, float64."""
    count, p = torch.arange(trials + 1, dtype=torch.float64), torch.tensor(probability, dtype=torch.float64)
    whole = torch.tensor(trials + 1.0, dtype=torch.float64)
    ways = whole.lgamma() - (count + 1).lgamma() - (trials - count + 1).lgamma()
    return (ways + torch.xlogy(count, p) + torch.xlogy(trials - count, 1 - p)).exp()
