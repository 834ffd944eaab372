"""A penalty on the firing rates of neurons that are too low or too high."""

from collections.abc import Collection

import torch
from torch import Tensor

from spikewright._util.ranges import check_instance, check_names, check_numbers
from spikewright.errors import ConfigError


class FiringRatePenalty:
    r"""Penalty on the firing rates of layers of neurons, below a lower bound and above an upper one.

    With :math:`r_{bi}` the firing rate of neuron i for sample b, the mean number of its spikes over the steps of the
    sequence, B samples, and :math:`N_l` neurons in layer l,

    .. math::
        P = \frac{1}{B} \sum_b \sum_l \frac{1}{N_l} \sum_{i \in l}
            s_\mathrm{lower} \max(0, \theta_\mathrm{lower} - r_{bi})^2
            + s_\mathrm{upper} \max(0, r_{bi} - \theta_\mathrm{upper})^2 .

    It is a mean over samples, so that it does not depend on how a batch is divided among processes.  Give it to a loss,
    `PerStep(nn.CrossEntropyLoss(), penalty=FiringRatePenalty(upper=0.1))`: a rule adds it to the loss of a batch, and
    its gradient at the spikes of every layer to the error that arrives there.  No module of the network changes.

    Rules that see the whole sequence (BPTT) take its exact gradient.  Rules that learn step by step know a rate only at
    the end.  With :math:`C_{bi}[t]` the number of spikes up to step t, and f the penalty as a function of rates, the
    penalty is the sum over steps of :math:`P[t] - P[t-1]`, where :math:`P[t] = \frac{t}{T} f(C[t] / t)`.  They
    differentiate each of these terms with the spikes of earlier steps held constant, so that the gradient at the spike
    of step t is :math:`f'(C[t] / t) / T`: that of the whole sequence, with the running mean in place of the rate.  It
    does not depend on the chunk.  Rules of rates take the gradient at the mean outputs that they learn from, which are
    weighted by the decay of leaky neurons.

    Args:
        lower: Lower bound :math:`\theta_\mathrm{lower}`, in spikes per step.  In (0, 1].  Default: None, no lower
            bound.
        upper: Upper bound :math:`\theta_\mathrm{upper}`, in spikes per step.  In [0, 1], and at least `lower`.
            Default: None, no upper bound.
        lower_strength: Weight :math:`s_\mathrm{lower}` of the penalty below `lower`.  > 0.  Default: 1.0.
        upper_strength: Weight :math:`s_\mathrm{upper}` of the penalty above `upper`.  > 0.  Default: 1.0.
        layers: Names of layers of neurons, as in the rates of an `Update`; a module that is called again has further
            names such as "lif#2".  Default: (), all layers.

    Raises:
        ConfigError: There is neither a lower nor an upper bound; a bound or a strength is out of its range; or `layers`
            is no collection of texts.

    Differs from others:
        Zenke and Vogels bound counts of spikes per neuron from below, and their mean over the neurons of a layer from
        above.  Here both bounds are on rates per neuron.

    Reference:
        Zenke, Vogels, The Remarkable Robustness of Surrogate Gradient Learning for Instilling Complex Function in
        Spiking Neural Networks, Neural Computation 33, 2021, for the two bounds; Bellec, Scherr, Subramoney, Hajek,
        Salaj, Legenstein, Maass, A solution to the learning dilemma for recurrent networks of spiking neurons, Nature
        Communications 11, 2020, for the running mean in online learning.

    Examples:
        >>> import torch, spikewright as sw
        >>> penalty = sw.losses.FiringRatePenalty(lower=0.2, upper=0.5)
        >>> penalty(torch.tensor([[0.0, 0.4, 1.0, 0.4]])).tolist()  # a quarter of 0.2**2 + 0.5**2
        [0.07249999791383743]
        >>> _ = torch.manual_seed(0)
        >>> net = sw.Network(torch.nn.Sequential(torch.nn.Linear(4, 8), sw.LIF(), torch.nn.Linear(8, 3)))
        >>> loss = sw.losses.PerStep(torch.nn.CrossEntropyLoss(), penalty=penalty)
        >>> (update,) = sw.rules.BPTT().updates(net, torch.ones(5, 2, 4), torch.tensor([0, 2]), loss)
        >>> bool(0 < update.penalty < update.loss)
        True
    """

    def __init__(
        self,
        lower: float | None = None,
        upper: float | None = None,
        lower_strength: float = 1.0,
        upper_strength: float = 1.0,
        layers: Collection[str] = (),
    ) -> None:
        name = type(self).__name__
        check_numbers(name, "(0, 1]", optional=True, lower=lower)
        check_numbers(name, "[0, 1]", optional=True, upper=upper)
        check_numbers(name, "(0, inf)", lower_strength=lower_strength, upper_strength=upper_strength)
        if lower is None and upper is None:
            raise ConfigError(
                f"{name}() was asked for without a bound, so that nothing would be penalised. Give lower=0.01, the "
                "rate below which neurons are pushed to fire, upper=0.2, above which they are pushed to be silent, or "
                "both."
            )
        if lower is not None and upper is not None and lower > upper:
            raise ConfigError(
                f"{name}(lower={lower}, upper={upper}) was asked for, but no rate is above the lower bound and below "
                "the upper one then. Give a lower bound that is at most the upper one."
            )
        self.lower, self.upper = lower, upper
        self.lower_strength, self.upper_strength = lower_strength, upper_strength
        self.layers = check_names(name, "layers", layers, "('1',)")

    def __call__(self, rates: Tensor) -> Tensor:
        """Return the penalty of a layer for every sample, `[batch]`.

        Args:
            rates: Firing rates, `[batch, neuron]`, in spikes per step.
        """
        short, over = self._beyond(rates)
        return (self.lower_strength * short.square() + self.upper_strength * over.square()).mean(-1)

    def slope(self, rates: Tensor) -> Tensor:
        """Return the derivative of the penalty of each sample by its rates, of the shape of `rates`.

        Args:
            rates: Firing rates, `[..., neuron]`, in spikes per step.
        """
        short, over = self._beyond(rates)
        return (self.upper_strength * over - self.lower_strength * short) * (2 / rates.shape[-1])

    def covers(self, layer: str) -> bool:
        """Return True if a layer of neurons is penalised.

        Args:
            layer: Its name.
        """
        return not self.layers or layer in self.layers

    def _beyond(self, rates: Tensor) -> tuple[Tensor, Tensor]:
        """Return by how much rates are below the lower and above the upper bound, and 0 elsewhere."""
        none = torch.zeros_like(rates)
        short = none if self.lower is None else (self.lower - rates).clamp_min(0)
        return short, none if self.upper is None else (rates - self.upper).clamp_min(0)

    def __repr__(self) -> str:
        shown = [f"{name}={value}" for name, value in vars(self).items() if value is not None and value != ()]
        return f"{type(self).__name__}({', '.join(shown)})"


def check_penalty(owner: str, penalty: object) -> None:
    """Raise `ConfigError` unless a penalty is a `FiringRatePenalty` or `None`.

    Args:
        owner: Name of the loss that takes it.
        penalty: The penalty.
    """
    if penalty is not None:
        check_instance(owner, "penalty", penalty, FiringRatePenalty, "sw.losses.FiringRatePenalty(upper=0.2)")
