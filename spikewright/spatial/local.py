"""Local learning: every layer of neurons has a readout and an error of its own, beside that of the output."""

import math
from collections.abc import Collection
from typing import Literal, get_args

from torch import Tensor, nn

from spikewright._util.ranges import check_choice, check_count, check_within
from spikewright._util.text import as_key
from spikewright.errors import ConfigError, IncompatibleRule, nearest
from spikewright.network.wiring import Wiring

Below = Literal["both", "only"]


class Local(nn.Module):
    r"""A linear readout at every layer of neurons, trained by the loss of the network; its error is added there.

    With :math:`R_l` the readout, :math:`\hat s_l` the spikes, averaged over regions if the layer is a map, :math:`\ell`
    the loss, y the target, and :math:`g_l` the error that arrives at the neurons of layer l,

    .. math::
        g_l \leftarrow g_l + \eta R_l^\top e_l, \qquad e_l = \partial\ell(R_l \hat s_l, y) / \partial(R_l \hat s_l).

    A layer is a map if a sample has further axes behind the first.  If errors go back layer by layer (`BP`,
    `SignSymmetric`, `FA`), those of the readouts do so too.  The readouts are parameters of the rule: create them by
    `rule.prepare(net, x)`, and give `rule.parameters()` to the optimizer.

    Args:
        weight: Factor :math:`\eta`.  > 0.  Default: 1.0.
        pool: Side of the grid of regions that a map is averaged to.  At least 1.  Default: 1.
        intermediate: Name of the intermediate layer of neurons whose error the layers in front of it learn from too,
            through feedback matrices of their own (intermediate global learning); "middle" is the middle layer.  It
            needs `DFA`, `DKP` or `OPZO`.  Default: None, no such layer.
        below: What the layers in front of the intermediate one learn from: "both" errors, or "only" the intermediate
            one.  Default: "both".

    Raises:
        ConfigError: `weight` or `pool` is out of range; `below` is unknown.

    Reference:
        Xiao, Meng, Zhang, Wang, Lin, Online Pseudo-Zeroth-Order Training of Neuromorphic Spiking Neural Networks, ICLR
        2026, arXiv 2407.12516, section 4.
    """

    def __init__(
        self, weight: float = 1.0, pool: int = 1, intermediate: str | None = None, below: Below = "both"
    ) -> None:
        super().__init__()
        check_within("Local", "weight", weight, "(0, inf)", "the weight of local errors is positive")
        check_count("Local", "pool", pool, "a map is averaged to a grid of pool x pool regions")
        check_choice("Local", "below", below, get_args(Below))
        self.weight, self.pool = weight, pool
        self.intermediate, self.below = intermediate, below
        self.readouts = nn.ModuleDict()

    def check(self, wiring: Wiring) -> None:
        """Raise `IncompatibleRule` if linear readouts cannot have the output of the network.

        Args:
            wiring: Wiring of the network.

        Raises:
            ConfigError: There is no intermediate layer of that name.
        """
        if len(wiring.output) != 1:
            raise IncompatibleRule(
                f"Local learning gives every layer a linear readout to the {len(wiring.output)} axes of the output, "
                f"{list(wiring.output)}, but a linear readout has one. Use it where the output is one vector per "
                "sample and step."
            )
        if self.intermediate is not None:
            self.middle(wiring)

    def prepare(self, wiring: Wiring, like: Tensor) -> None:
        """Create the readouts; existing ones stay.

        Args:
            wiring: Wiring of the network.
            like: Tensor that gives type and device, of any shape.
        """
        for site, shape in wiring.shapes.items():
            if as_key(site) not in self.readouts:
                self.readouts[as_key(site)] = self._readout(site, shape, wiring.output[0]).to(like)

    def middle(self, wiring: Wiring) -> str:
        """Return the name of the intermediate layer.

        Args:
            wiring: Wiring of the network.
        """
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
        """Return the output of a layer's readout, `[time, batch, class]`.

        Args:
            site: Name of the layer of neurons.
            spikes: What it emitted, `[time, batch, *feature]`.
        """
        readout = self.readouts[as_key(site)]
        rows = spikes.flatten(0, 1).to(next(readout.parameters()).dtype)  # of 32 bits or more, whatever the network has
        return readout(rows).unflatten(0, spikes.shape[:2])

    def products(self, needed: Collection[str]) -> int:
        """Return the number of multiplications of the readouts, per sample and step.

        Args:
            needed: Names of the layers of neurons that receive the error of their readout.
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
