"""Local learning: every layer has a readout and an error of its own, beside what arrives from the output."""

import math
from collections.abc import Collection
from typing import Literal, get_args

from torch import Tensor, nn

from spikewright._util.text import as_key
from spikewright.errors import ConfigError, IncompatibleRule, nearest
from spikewright.network.wiring import Wiring

Below = Literal["both", "only"]


class Local(nn.Module):
    r"""A linear readout at every neuron layer, trained by the loss of the network; its error reaches that layer.

    .. math::
        g_l \leftarrow g_l + \eta R_l^\top e_l, \qquad e_l = \partial\ell(R_l \hat s_l, y) / \partial(R_l \hat s_l),

    with :math:`\hat s_l` the spikes, averaged over regions of the map where there is one: all axes of a sample behind
    the first (`Wiring.shapes`).  Where errors go back from layer to layer (`BP`, `SignSymmetric`, `FA`), these do so
    too.  The readouts are parameters of the rule: make them with `rule.prepare(net, x)`, and give `rule.parameters()`
    to the optimizer too.

    Args:
        weight: The factor :math:`\eta`.
        pool: Side of the grid of regions that a map is averaged to.
        intermediate: Intermediate global learning: the layers in front of this one learn from its error as well,
            through matrices of their own; its site, or "middle".
        below: Whether those layers learn from both errors, or from the intermediate one only.

    Raises:
        ConfigError: An argument is out of its range, or unknown.

    Reference:
        Xiao et al., Online Pseudo-Zeroth-Order Training of Neuromorphic Spiking Neural Networks, ICLR 2026,
        arXiv 2407.12516, section 4.
    """

    def __init__(
        self, weight: float = 1.0, pool: int = 1, intermediate: str | None = None, below: Below = "both"
    ) -> None:
        super().__init__()
        if not weight > 0 or pool < 1:
            raise ConfigError(f"Local(weight={weight}, pool={pool}): the weight is positive, and pool at least 1.")
        if below not in get_args(Below):
            raise ConfigError(f"Local(below={below!r}) is unknown. {nearest(below, get_args(Below))}")
        self.weight, self.pool = weight, pool
        self.intermediate, self.below = intermediate, below
        self.readouts = nn.ModuleDict()

    def check(self, wiring: Wiring) -> None:
        """Raise `IncompatibleRule` if readouts cannot do what the network's does."""
        if len(wiring.output) != 1:
            raise IncompatibleRule(
                f"Local learning gives every layer a linear readout to the {len(wiring.output)} axes of the output, "
                f"{list(wiring.output)}, but a linear readout has one. Use it where the output is one vector per "
                "sample and step."
            )
        if self.intermediate is not None:
            self.middle(wiring)

    def prepare(self, wiring: Wiring, like: Tensor) -> None:
        """Make the readouts that are not there yet."""
        for site, shape in wiring.shapes.items():
            if as_key(site) not in self.readouts:
                self.readouts[as_key(site)] = self._readout(site, shape, wiring.output[0]).to(like)

    def middle(self, wiring: Wiring) -> str:
        """Return the site of the intermediate layer."""
        sites = list(wiring.shapes)
        if self.intermediate == "middle":
            return sites[(len(sites) - 1) // 2]
        if self.intermediate not in sites:
            raise ConfigError(
                f"Local(intermediate={self.intermediate!r}): the network has no such neurons. "
                f"{nearest(str(self.intermediate), ['middle', *sites])}"
            )
        return self.intermediate

    def read(self, site: str, spikes: Tensor) -> Tensor:
        """Return what a layer's readout makes of its spikes: `[time, batch, class]`."""
        return self.readouts[as_key(site)](spikes.flatten(0, 1)).unflatten(0, spikes.shape[:2])

    def products(self, needed: Collection[str]) -> int:
        """Return the multiplications that the readouts take, per sample and step.

        Args:
            needed: Sites of the neurons that are told of the error of theirs.
        """
        told, found = set(map(as_key, needed)), 0
        for key, readout in self.readouts.items():
            sizes = [(p.numel(), p.requires_grad) for p in readout.parameters()]
            found += sum(size * (1 + learns + (key in told)) for size, learns in sizes)
        return found

    def _readout(self, site: str, shape: tuple[int, ...], classes: int) -> nn.Module:
        if len(shape) == 1:
            return nn.Linear(shape[0], classes)
        if not 2 <= len(shape) <= 4:
            raise IncompatibleRule(
                f"Local learning averages what '{site}' emits over regions of a map, but a sample has the shape "
                f"{list(shape)} there, and a map has one to three sides behind an axis of channels. Flatten channels "
                "and rows before these neurons, or learn without local readouts."
            )
        pooled = [min(self.pool, side) for side in shape[1:]]
        average = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}[len(pooled)]
        return nn.Sequential(average(tuple(pooled)), nn.Flatten(), nn.Linear(shape[0] * math.prod(pooled), classes))

    def extra_repr(self) -> str:
        names = ("weight", "pool", "intermediate", "below")
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)

    def __repr__(self) -> str:
        return f"Local({self.extra_repr()})"
