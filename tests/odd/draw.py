"""The generator of odd networks: a recipe is a seed and a list of constructs, and makes one network and its data."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

import spikewright as sw
from tests.odd import neurons, parametrized, unseen  # noqa: F401  (which has the last constructs)
from tests.odd.constructs import CONSTRUCTS, INTEGERS
from tests.odd.module import CLASSES, MARK, TOKENS, WIDTH, Draw, OddNet
from tests.odd.reference import Unrolled

DENSITIES = (0.05, 0.1, 0.36)
"""How likely a construct is in simple and in crowded networks."""
HARD_TO_PLACE = {
    "shared_neuron": 4.0,
    "layer_called_twice": 1.8,
    "own_scan": 1.7,
    "conv2d": 1.7,
    "own_layer": 2.6,
    "drawn_weight": 3.6,
    "counted_rows": 0.7,
    "complex_layer": 2.0,
    "complex_readout": 1.2,
    "alpha": 1.3,
    "conv1d": 1.4,
    "dsr_neuron": 1.5,
    "scaled_neuron": 1.4,
    "two_routes": 1.2,
    "trained_scale_of_integers": 1.3,
    "bottleneck_with_batch_norm": 1.3,
    "bottleneck_with_running_norm": 1.4,
    "bottleneck": 1.2,
}
"""How much likelier those are that often find no place left."""
LIVE = (0.08, 0.92)
"""Share of the neurons of a layer that fire in a step, within which a layer is left as it is."""


@dataclass(frozen=True)
class Recipe:
    """How to draw a network again.

    Attributes:
        seed: Of everything that is drawn.
        constructs: Their names.
        integers: The input is made of whole numbers.
        steps: Length of the sequences, if it is not to be drawn.
    """

    seed: int
    constructs: tuple[str, ...]
    integers: bool
    steps: int | None = None

    def without(self, name: str) -> "Recipe":
        kept = tuple(other for other in self.constructs if other != name)
        return Recipe(self.seed, kept, self.integers, self.steps)

    def __str__(self) -> str:
        length = "" if self.steps is None else f", steps={self.steps}"
        return f"Recipe({self.seed}, {self.constructs}, integers={self.integers}{length})"


@dataclass
class Sample:
    """A network, and data to learn.

    Attributes:
        recipe: What it was drawn by, with the constructs that found a place.
        module: The network.
        x: `[time, batch, WIDTH]`.
        y: `[batch]`.
        rates: Share of neurons that fire in a step, by layer.
        expected: The gradient of BPTT that is written apart, once it has been found.
    """

    recipe: Recipe
    module: OddNet
    x: Tensor
    y: Tensor
    rates: dict[str, float] = field(default_factory=dict)
    expected: dict[str, Tensor] = field(default_factory=dict)

    @cached_property
    def net(self) -> sw.Network:
        """The network as the library runs it."""
        return sw.Network(self.module)


def recipe(seed: int, family: Collection[str] | None = None, steps: int | None = None) -> Recipe:
    """Draw a recipe.

    Args:
        seed: Of all.
        family: The constructs; `None` draws them.
        steps: Length of the sequences; `None` draws it.
    """
    draw = Draw(seed, "recipe")
    integers = draw.share() < 0.36
    if family is not None:
        return Recipe(seed, tuple(family), integers or bool(INTEGERS & set(family)), steps)
    density = draw.pick(*DENSITIES)
    chosen = []
    for name in CONSTRUCTS:
        if name in INTEGERS:
            taken = integers and draw.share() < 0.42 * HARD_TO_PLACE.get(name, 1)
        else:
            taken = draw.share() < density * HARD_TO_PLACE.get(name, 1)
        if taken:
            chosen.append(name)
    return Recipe(seed, tuple(chosen), integers, steps)


def build(recipe: Recipe) -> Sample:
    """Make the network of a recipe, in double precision and alive, and its data."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return _build(recipe)
    finally:
        torch.set_default_dtype(before)


def place(recipe: Recipe) -> tuple[OddNet, tuple[str, ...]]:
    """Return the network of a recipe with the weights that layers have of themselves, and what found a place in it."""
    net = OddNet(Draw(recipe.seed, "depth").whole(2, 4), recipe.integers)
    for _ in range(net.depth):
        neuron = neurons.usual()
        neuron.usual = True  # type: ignore[assignment]
        net.neurons.append(neuron)
    wanted = {name: put for name, put in CONSTRUCTS.items() if name in recipe.constructs}
    return net, tuple(name for name, put in wanted.items() if put(net, Draw(recipe.seed, name)) is not False)


def _build(recipe: Recipe) -> Sample:
    net, placed = place(recipe)
    draw = Draw(recipe.seed, "network")
    steps, batch = draw.whole(1, 6), draw.whole(2, 4)
    steps = recipe.steps or steps
    if "bottleneck_with_batch_norm" in placed:
        batch = max(batch, 3)  # of two samples a norm tells the sign of their difference, and no more
    _fill(net, draw.generator)
    x = _data(draw, steps, batch, recipe.integers, marked="item_branch" in placed)
    y = torch.randint(CLASSES, (batch,), generator=draw.generator)
    sample = Sample(Recipe(recipe.seed, placed, recipe.integers, recipe.steps), net, x, y)
    _enliven(sample)
    return sample


def draw_networks(count: int, seed: int = 0, steps: int | None = None) -> Iterable[Sample]:
    """Yield so many networks."""
    for number in range(count):
        yield build(recipe(seed * 100_003 + number, steps=steps))


def _fill(net: OddNet, generator: torch.Generator) -> None:
    """Give the layers weights that let about a third of the neurons fire."""
    for name, layer in net.named_modules():
        known = name.startswith("layers.") or name == "readout"
        if known and hasattr(layer, "weight") and not isinstance(layer, nn.BatchNorm1d) and "." not in name[7:]:
            _draw_weights(layer, generator)
        elif isinstance(layer, nn.Conv1d | nn.Conv2d):
            _draw_weights(layer, generator)


@torch.no_grad()
def _draw_weights(layer: nn.Module, generator: torch.Generator) -> None:
    weight, bias = layer.weight, layer.bias
    fan_in = weight[0].numel()  # type: ignore[index, operator]
    weight.copy_(2.2 * _normal_like(weight, generator) / math.sqrt(fan_in))  # type: ignore
    bias.copy_(0.4 + 0.3 * _normal_like(bias, generator))  # type: ignore


def _normal_like(parameter: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator)


def _data(draw: Draw, steps: int, batch: int, integers: bool, marked: bool) -> Tensor:
    """Draw an input, two fifths of it zeros; in half of the networks a probe of the first two samples sees none."""
    shape, quiet = (steps, batch, WIDTH), draw.share() < 0.5
    if integers:
        x = torch.randint(1, TOKENS - 1, shape, generator=draw.generator)
        x[torch.rand(shape, generator=draw.generator) < 0.4] = 0
        if quiet:
            x[0, :2] = torch.randint(2, TOKENS - 1, (min(2, batch), WIDTH), generator=draw.generator)
        if marked:
            x[:, -1, 0] = TOKENS - 1  # half of which is above MARK
        return x
    x = 0.1 + 1.4 * torch.rand(shape, generator=draw.generator, dtype=torch.float64)
    if draw.share() < 0.3:
        x = 1.3 * torch.ones_like(x)  # spikes
    x[torch.rand(shape, generator=draw.generator) < 0.4] = 0
    if quiet:
        x[0, :2] = 0.7 + 0.8 * torch.rand(x[0, :2].shape, generator=draw.generator, dtype=torch.float64)
    if marked:
        x[:, -1, 0] = MARK + 0.5
    return x


def _enliven(sample: Sample) -> None:
    """Move biases and weights of layers whose neurons hardly ever, or nearly always, fire."""
    for _ in range(12):
        unrolled = Unrolled(sample.module)
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            unrolled.run(sample.x)
        sample.rates = unrolled.rates()
        if not _moved(sample):
            return


@torch.no_grad()
def _moved(sample: Sample) -> bool:
    """Move the first layer that has to be; return whether there was one."""
    for name, rate in sample.rates.items():
        if LIVE[0] <= rate <= LIVE[1]:
            continue
        place = int(name.partition(".")[2])
        layers = [m for m in sample.module.layer(place).modules() if hasattr(m, "bias") and m.bias is not None]
        if layers:
            bias, weight = layers[-1].bias, layers[-1].weight
            step = 0.4 if rate < LIVE[0] else -0.4
            bias += step * (1 + 1j) if bias.is_complex() else step  # type: ignore[operator]
            weight *= 1.25 if rate < LIVE[0] else 0.9  # type: ignore[operator]
            return True
    return False
