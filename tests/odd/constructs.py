"""The odd things that people put in networks: each changes an `OddNet` at a place that is drawn."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.layers import Feedback, StepDropout
from spikewright.layers.delay import SynapticDelay
from tests.odd.complex_layers import draw_complex
from tests.odd.module import CLASSES, MARK, TOKENS, WIDTH, Draw, OddNet, Plain, Seen, Step

Construct = Callable[[OddNet, Draw], bool | None]
"""Changes a network; `False` says that there is no place for it."""
CONSTRUCTS: dict[str, Construct] = {}
INTEGERS = {"padding_mask", "embedding", "trained_scale_of_integers"}
"""Constructs that need an input of whole numbers."""
SHARING = {"shared_weight", "shared_weight_in_other_order", "layer_called_twice"}
"""Constructs by which one weight is used at two places."""
RANDOM = {"functional_dropout"}
"""Constructs that draw other numbers where a sequence is cut into other chunks."""


def construct(function: Construct) -> Construct:
    CONSTRUCTS[function.__name__] = function
    return function


def _place(net: OddNet, draw: Draw, lowest: int = 0) -> int:
    """Return a place that is drawn, often the last, where most is promised."""
    return net.depth - 1 if draw.share() < 0.4 else draw.whole(lowest, net.depth - 1)


def _anywhere(net: OddNet, draw: Draw, *, last: bool = True) -> nn.ModuleList:
    """Return the steps of a place in front of a layer, behind one, or in front of the readout."""
    place = _place(net, draw)
    side = draw.pick("within", "within", *(["before"] if place else []), *(["last"] if last else []))
    return net.last if side == "last" else net.within(place) if side == "within" else net.before(place)


def _current(net: OddNet, draw: Draw) -> nn.ModuleList:
    """Return the steps between a layer and its neurons, at a place that is drawn."""
    return net.within(_place(net, draw))  # type: ignore[return-value]


def _behind_spikes(net: OddNet, draw: Draw) -> nn.ModuleList:
    """Return the steps between neurons and the next layer, or the readout."""
    place = draw.whole(1, net.depth)
    return net.last if place == net.depth else net.before(place)  # type: ignore[return-value]


def _linear(draw: Draw, inputs: int = WIDTH, outputs: int = WIDTH, scale: float = 1.5) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(outputs, inputs, generator=draw.generator) * scale / math.sqrt(inputs))
        layer.bias.copy_(0.3 * torch.randn(outputs, generator=draw.generator))
    return layer


def _vector(draw: Draw, size: int = WIDTH, centre: float = 1.0) -> nn.Parameter:
    return nn.Parameter(centre + 0.3 * torch.randn(size, generator=draw.generator))


# --- the input


@construct
def embedding(net: OddNet, draw: Draw) -> None:
    """Tokens become vectors: one number for each, or the mean of a vector for each, with or without padding."""
    table = nn.Embedding(TOKENS, 1 if draw.share() < 0.5 else WIDTH)
    with torch.no_grad():
        table.weight.copy_(torch.randn(table.weight.shape, generator=draw.generator) + 0.4)
    padded = draw.share() < 0.5

    def embed(self: Any, value: Tensor, seen: Seen) -> Tensor:
        rows = self.table(value) * (value != 0).unsqueeze(-1) if padded else self.table(value)
        return rows.squeeze(-1) if rows.shape[-1] == 1 else 2 * rows.mean(1)

    net.front.append(Step(embed, table=table))


@construct
def trained_scale_of_integers(net: OddNet, draw: Draw) -> bool | None:
    """Whole numbers times a parameter, and perhaps more of its kind."""
    if len(net.front):
        return False
    shifted = draw.share() < 0.4

    def scale(self: Any, value: Tensor, seen: Seen) -> Tensor:
        return value * self.scale / 2 + self.shift if shifted else value * self.scale / 2

    net.front.append(Step(scale, scale=_vector(draw), shift=_vector(draw, centre=0.2) if shifted else None))


# --- factors that come from data


@construct
def padding_mask(net: OddNet, draw: Draw) -> None:
    """`f(x) * (x != 0)`."""

    def mask(self: Any, value: Tensor, seen: Seen) -> Tensor:
        return value * (seen.raw != 0)

    (net.within(0) if draw.share() < 0.6 else _current(net, draw)).append(Step(mask))  # type: ignore[operator]


@construct
def data_gate(net: OddNet, draw: Draw) -> None:
    """`f(x) * (x.sum(1, keepdim=True) > c)`, and what is like it."""
    kind, bound = draw.pick("hard", "hard", "soft", "sign", "entry", "fill"), draw.pick(6.0, 7.0, 8.0)

    def gate(self: Any, value: Tensor, seen: Seen) -> Tensor:
        total = seen.x.sum(1, keepdim=True)
        if kind == "fill":
            return value.masked_fill(total < bound, 0.0)
        factor = {
            "hard": lambda: total > bound,
            "soft": lambda: torch.sigmoid(total - bound),
            "sign": lambda: (total - bound).sign(),
            "entry": lambda: seen.x,
        }[kind]()
        return value * factor

    (_current if draw.share() < 0.8 else _behind_spikes)(net, draw).append(Step(gate))


@construct
def mean_division(net: OddNet, draw: Draw) -> None:
    """Division by a mean of the data, or by one of what a layer was given."""
    detached, own = draw.share() < 0.5, draw.share() < 0.3
    place = _place(net, draw)

    def divide(self: Any, value: Tensor, seen: Seen) -> Tensor:
        mean = (seen.arrived[place] if own else seen.x).abs().mean(1, keepdim=True) + 0.3
        return value / (mean.detach() if detached else mean)

    net.within(place).append(Step(divide))  # type: ignore[operator]


@construct
def data_index(net: OddNet, draw: Draw) -> None:
    """What is taken from a current is where the data are largest."""
    kind = draw.pick("gather", "index", "index", "largest", "largest", "select", "sort", "table")
    if kind == "table":  # a row of a table of weights
        table = nn.Parameter(torch.randn(WIDTH, WIDTH, generator=draw.generator) * 0.6)
        net.within(_place(net, draw)).append(  # type: ignore[operator]
            Step(lambda self, value, seen: value + self.table.index_select(0, seen.x.argmax(1)), table=table)
        )
        return

    def take(self: Any, value: Tensor, seen: Seen) -> Tensor:
        index = (torch.arange(WIDTH) + seen.x.argmax(1, keepdim=True)) % WIDTH
        rows = torch.arange(len(value)).unsqueeze(1)
        if kind == "gather":
            return value.gather(1, index)
        if kind == "index":
            return value[rows, index]
        if kind == "largest":  # one entry for all
            return value[rows, index[:, :1]] + torch.linspace(-0.5, 0.5, WIDTH)
        if kind == "select":
            return value.flatten().index_select(0, (rows * WIDTH + index).flatten()).view_as(value)
        return value.take_along_dim(seen.x.argsort(stable=True, dim=1), 1)

    _current(net, draw).append(Step(take))


@construct
def where_mask(net: OddNet, draw: Draw) -> None:
    """`torch.where` by data, between a current and nothing or another value."""
    other = draw.pick(0.0, 0.4, None)
    place = _place(net, draw)

    def where(self: Any, value: Tensor, seen: Seen) -> Tensor:
        fallback = 0.3 * value.roll(1, 1) if other is None else other
        return torch.where(seen.x > 0.5, value, fallback)

    net.within(place).append(Step(where))  # type: ignore[operator]


@construct
def spike_gate(net: OddNet, draw: Draw) -> None:
    """A current is let through by spikes of another layer."""
    kind = draw.pick("greater", "greater", "detached", "attached", "count", "fill")
    place = _place(net, draw, 1)
    other = draw.whole(0, place - 1)

    def gate(self: Any, value: Tensor, seen: Seen) -> Tensor:
        spikes = seen.spikes[other]
        if kind == "fill":
            return value.masked_fill(spikes.roll(1, 1) == 0, 0.2)
        if kind == "count":
            return value * ((spikes != 0).sum(1, keepdim=True) > WIDTH // 4)
        return value * {"greater": spikes > 0, "detached": 0.5 + spikes.detach(), "attached": 0.5 + spikes}[kind]

    net.within(place).append(Step(gate))  # type: ignore[operator]


@construct
def item_branch(net: OddNet, draw: Draw) -> None:
    """An `if` on a number of a parameter, or of the data, where a probe of the first samples may take the other way."""
    of_data = draw.share() < 0.6
    gated = draw.share() < 0.4

    def branch(self: Any, value: Tensor, seen: Seen) -> Tensor:
        number = seen.x.max() if of_data else self.flag.max() + MARK
        if number.item() > MARK:
            return value * (seen.x > 0.4) if gated else F.gelu(value) + 0.3
        return value

    _current(net, draw).append(Step(branch, flag=nn.Parameter(torch.ones(1)) if not of_data else None))


# --- randomness


@construct
def functional_dropout(net: OddNet, draw: Draw) -> None:
    """`F.dropout` of a current, or of spikes."""
    _anywhere(net, draw).append(Step(lambda self, value, seen: F.dropout(value, 0.3, self.training)))


@construct
def dropout(net: OddNet, draw: Draw) -> None:
    """`nn.Dropout`, one mask per sequence."""
    _anywhere(net, draw).append(Plain(nn.Dropout(0.25)))


@construct
def step_dropout(net: OddNet, draw: Draw) -> None:
    """Dropout with a fresh mask at every step."""
    _anywhere(net, draw).append(Plain(StepDropout(0.25)))


# --- weights that are used twice


def _plain_places(net: OddNet) -> list[int]:
    return [place for place in range(net.depth) if type(net.layer(place)) is nn.Linear]


@construct
def shared_weight(net: OddNet, draw: Draw) -> bool | None:
    """One weight of two layers, which are called in the order in which they are registered."""
    if net.depth < 2:
        return False
    first = draw.whole(0, net.depth - 2)
    second = draw.whole(first + 1, net.depth - 1)
    net.layers[second].weight = net.layers[first].weight  # type: ignore[union-attr]


@construct
def shared_weight_in_other_order(net: OddNet, draw: Draw) -> bool | None:
    """One weight of two layers, of which that called first is registered second."""
    if net.depth < 2:
        return False
    first = draw.whole(0, net.depth - 2)
    second = draw.whole(first + 1, net.depth - 1)
    net.layers[second].weight = net.layers[first].weight  # type: ignore[union-attr]
    net.order[first], net.order[second] = net.order[second], net.order[first]


@construct
def layer_called_twice(net: OddNet, draw: Draw) -> bool | None:
    """One module at two places."""
    weights = {id(layer.weight) for layer in net.layers}
    if net.depth < 2 or net.order != list(range(net.depth)) or len(weights) < net.depth:
        return False
    first = draw.whole(0, net.depth - 2)
    net.order[draw.whole(first + 1, net.depth - 1)] = first
    unused = [index for index in range(net.depth) if index not in net.order]
    for index in unused:  # as nobody calls it
        net.layers[index].requires_grad_(False)


# --- layers of other kinds


class OwnLayer(nn.Module):
    """A layer that calls `F.linear` itself."""

    def __init__(self, like: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = like.weight, like.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class OnMaps(nn.Module):
    """A convolution of a vector that is read as a map."""

    def __init__(self, shape: tuple[int, ...], layer: nn.Module) -> None:
        super().__init__()
        self.shape, self.layer = shape, layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.view(-1, *self.shape)).flatten(1)


def _replaceable(net: OddNet, draw: Draw) -> int | None:
    """Return a place whose layer is an ordinary one, called nowhere else and sharing nothing."""
    weights = [net.layer(place).weight for place in _plain_places(net)]
    free = [
        place
        for place in _plain_places(net)
        if net.order.count(net.order[place]) == 1 and sum(w is net.layer(place).weight for w in weights) == 1
    ]
    return free[-1] if free and draw.share() < 0.4 else draw.pick(*free) if free else None


def _replace(net: OddNet, place: int, layer: nn.Module) -> None:
    net.layers[net.order[place]] = layer


def _replacing(make: Callable[[OddNet, Draw, int], nn.Module]) -> Construct:
    def place_it(net: OddNet, draw: Draw) -> bool | None:
        place = _replaceable(net, draw)
        if place is None:
            return False
        _replace(net, place, make(net, draw, place))
        return None

    place_it.__name__ = make.__name__
    return construct(place_it)


@_replacing
def bottleneck(net: OddNet, draw: Draw, place: int) -> nn.Module:
    """Two layers with no neurons between them."""
    return nn.Sequential(_linear(draw, WIDTH, 6), _linear(draw, 6, WIDTH))


def _normed(draw: Draw, training: bool) -> nn.Module:
    inner = [_linear(draw, WIDTH, 8), nn.BatchNorm1d(8), _linear(draw, 8, WIDTH)]
    layers = [*inner, nn.BatchNorm1d(WIDTH)] if draw.share() < 0.5 else inner
    for layer in layers:
        if isinstance(layer, nn.BatchNorm1d):
            with torch.no_grad():
                layer.weight.fill_(1.2)
                layer.bias.copy_(0.3 * torch.randn(layer.num_features, generator=draw.generator) + 0.3)
                layer.running_mean.normal_(generator=draw.generator)  # type: ignore[union-attr]
                layer.running_var.uniform_(0.5, 2.0, generator=draw.generator)  # type: ignore[union-attr]
            layer.train(training)
    return nn.Sequential(*layers)


@_replacing
def bottleneck_with_batch_norm(net: OddNet, draw: Draw, place: int) -> nn.Module:
    """Two layers with batch norm between them, which takes the statistics of every step."""
    return _normed(draw, True)


@_replacing
def bottleneck_with_running_norm(net: OddNet, draw: Draw, place: int) -> nn.Module:
    """Two layers with batch norm between them, in evaluation mode."""
    return _normed(draw, False)


@_replacing
def conv1d(net: OddNet, draw: Draw, place: int) -> nn.Module:
    """A convolution of sequences, whose neurons see a map or a vector."""
    if draw.share() < 0.6:
        net.maps[place] = (3, 4)
    return OnMaps((3, 4), nn.Conv1d(3, 3, 3, padding=1, groups=draw.pick(1, 3)))


@_replacing
def conv2d(net: OddNet, draw: Draw, place: int) -> nn.Module:
    """A convolution of images, whose neurons see a map or a vector."""
    if draw.share() < 0.6:
        net.maps[place] = (3, 2, 2)
    return OnMaps((3, 2, 2), nn.Conv2d(3, 3, draw.pick(1, 3), padding="same"))


@_replacing
def complex_layer(net: OddNet, draw: Draw, place: int) -> nn.Module:
    """A layer, two of them, or a convolution, with complex weights, read as real afterwards."""
    return draw_complex(draw, WIDTH, convolutions=True)


@_replacing
def own_layer(net: OddNet, draw: Draw, place: int) -> nn.Module:
    """A module with `F.linear` in its forward."""
    return OwnLayer(nn.Linear(WIDTH, WIDTH))


@construct
def two_routes(net: OddNet, draw: Draw) -> bool | None:
    """A weight that reaches neurons through its layer, and once more past it."""
    places = _plain_places(net)
    if not places:
        return False
    place = draw.pick(*places)
    kind = draw.pick("linear", "mean", "factor", "later")
    later = draw.whole(place, net.depth - 1)

    def route(self: Any, value: Tensor, seen: Seen) -> Tensor:
        weight = seen.net.layer(place).weight
        if kind == "linear":
            return value + 0.5 * F.linear(seen.arrived[place].roll(1, 1), weight)  # type: ignore[arg-type]
        if kind == "mean":
            return value + seen.arrived[place] * weight.mean()  # type: ignore[operator]
        if kind == "factor":
            return value * (1 + weight.mean())  # type: ignore[operator]
        return value + 0.5 * F.linear(seen.arrived[later], weight)  # type: ignore[arg-type]

    net.within(later if kind == "later" else place).append(Step(route))  # type: ignore[operator]


@construct
def frozen_layer(net: OddNet, draw: Draw) -> None:
    """A layer that does not learn."""
    net.layer(draw.whole(0, net.depth - 1)).requires_grad_(False)


# --- paths


@construct
def skip_to_output(net: OddNet, draw: Draw) -> None:
    """A current that reaches the output past its neurons."""
    place, weighted = draw.whole(0, net.depth - 1), draw.share() < 0.5

    def skip(self: Any, value: Tensor, seen: Seen) -> Tensor:
        current = seen.currents[place]
        return value + 0.3 * (self.layer(current) if weighted else current[:, :CLASSES])

    net.beside.append(Step(skip, layer=_linear(draw, WIDTH, CLASSES) if weighted else None))


@construct
def skip_to_current(net: OddNet, draw: Draw) -> None:
    """A current that is added to a later one."""
    place = _place(net, draw, 1)
    earlier, weighted = draw.whole(0, place - 1), draw.share() < 0.5

    def skip(self: Any, value: Tensor, seen: Seen) -> Tensor:
        current = seen.currents[earlier]
        return value + 0.5 * (self.layer(current) if weighted else current)

    net.within(place).append(Step(skip, layer=_linear(draw) if weighted else None))  # type: ignore[operator]


@construct
def skip_of_spikes(net: OddNet, draw: Draw) -> None:
    """Spikes that are added to a later current, or are joined to other spikes."""
    place = _place(net, draw, 1)
    earlier = draw.whole(0, place - 1)
    net.within(place).append(Step(lambda self, value, seen: value + 0.5 * seen.spikes[earlier]))  # type: ignore


@construct
def detached_part(net: OddNet, draw: Draw) -> None:
    """Half of a current, or of spikes, is cut from the graph."""
    _anywhere(net, draw).append(Step(lambda self, value, seen: 0.5 * value + 0.5 * value.detach()))


@construct
def feedback(net: OddNet, draw: Draw) -> None:
    """Spikes of the last step are added to a current."""
    place = _place(net, draw)
    source = draw.whole(place, net.depth - 1)
    if net.maps[source] is not None:
        back: nn.Module = nn.Sequential(nn.Flatten(), _linear(draw, scale=0.7))
    else:
        back = _linear(draw, scale=0.7)
    named = next(other for other in range(source + 1) if net.neurons[other] is net.neurons[source])  # if it is shared
    net.within(place).append(Plain(Feedback(back, f"neurons.{named}")))  # type: ignore[operator]


@construct
def feedback_of_readout(net: OddNet, draw: Draw) -> None:
    """The output of the last step is added to a current."""
    _current(net, draw).append(Plain(Feedback(_linear(draw, CLASSES, WIDTH, 0.5), "readout")))


@construct
def delay(net: OddNet, draw: Draw) -> None:
    """Spikes, or a current, that arrive later."""
    layer = SynapticDelay(WIDTH, max_delay=draw.whole(2, 3))
    with torch.no_grad():
        layer.delay_logit.copy_(1.5 * torch.randn(WIDTH, generator=draw.generator) - 1)
    _anywhere(net, draw).append(Plain(layer))


# --- between neurons and what is behind them


def _reshaping(kind: str, value: Tensor) -> Tensor:
    rows = value.shape[0]
    return {
        "pad": lambda: F.pad(value, (2, 0))[:, :WIDTH],
        "slice": lambda: torch.cat([value[:, 6:], value[:, :6]], 1),
        "strided": lambda: torch.cat([value[:, ::2], value[:, 1::2]], 1),
        "reshape": lambda: value.reshape(rows, 3, 4).transpose(1, 2).reshape(rows, WIDTH),
        "flip": lambda: value.flip(1),
        "stack": lambda: torch.stack(value.chunk(2, 1), 2).flatten(1),
        "average": lambda: F.avg_pool1d(value.unsqueeze(1), 3, 1, 1).squeeze(1) * 2,
    }[kind]()


def _shaped(*kinds: str) -> Callable[[Construct], Construct]:
    def place_it(net: OddNet, draw: Draw) -> None:
        kind = draw.pick(*kinds)
        _anywhere(net, draw).append(Step(lambda self, value, seen: _reshaping(kind, value)))

    def named(function: Construct) -> Construct:
        place_it.__name__ = function.__name__
        return construct(place_it)

    return named


@_shaped("pad", "slice", "strided")
def pad_or_slice(net: OddNet, draw: Draw) -> None:
    """`F.pad`, slices and `torch.cat`."""


@_shaped("reshape", "flip", "stack", "average")
def reshape_or_pool(net: OddNet, draw: Draw) -> None:
    """`reshape`, `flip`, `stack`, `chunk` and average pooling."""


def _bend(kind: str, value: Tensor) -> Tensor:
    return {
        "max_pool": lambda: F.max_pool1d(value.unsqueeze(1), 3, 1, 1).squeeze(1),
        "clamp": lambda: value.clamp(-0.2, 0.9) + 0.1,
        "gelu": lambda: F.gelu(value),
        "maximum": lambda: torch.maximum(value, 0.5 * value.roll(1, 1)),
        "product": lambda: value * (0.5 + value.roll(1, 1)),
    }[kind]()


def _bending(kind: str) -> None:
    def place_it(net: OddNet, draw: Draw) -> None:
        place = _behind_spikes if draw.share() < 0.7 else _current
        place(net, draw).append(Step(lambda self, value, seen: _bend(kind, value)))

    place_it.__name__ = kind
    construct(place_it)


for _kind in ("max_pool", "clamp", "gelu", "maximum", "product"):
    _bending(_kind)


# --- the readout


@construct
def layer_norm_at_readout(net: OddNet, draw: Draw) -> None:
    """Layer norm between the last neurons and the readout."""
    norm = nn.LayerNorm(WIDTH)
    with torch.no_grad():
        norm.weight.copy_(_vector(draw))
        norm.bias.copy_(_vector(draw, centre=0.0))
    net.last.append(Plain(norm))


@construct
def gain_at_readout(net: OddNet, draw: Draw) -> None:
    """A trained factor between the last neurons and the readout."""
    net.last.append(Step(lambda self, value, seen: value * self.gain, gain=_vector(draw)))


@construct
def bias_at_readout(net: OddNet, draw: Draw) -> None:
    """A trained term between the last neurons and the readout."""
    net.last.append(Step(lambda self, value, seen: value + self.shift, shift=_vector(draw, centre=0.2)))


@construct
def two_layer_readout(net: OddNet, draw: Draw) -> bool | None:
    """Two layers behind the last neurons, with or without something bent between them."""
    bent = draw.pick(nn.Identity, nn.Tanh, nn.ReLU)()
    net.readout = nn.Sequential(_linear(draw, WIDTH, 8), bent, _linear(draw, 8, CLASSES))


@construct
def complex_readout(net: OddNet, draw: Draw) -> bool | None:
    """A readout, of one layer or two, with complex weights."""
    if not isinstance(net.readout, nn.Linear):
        return False
    net.readout = draw_complex(draw, CLASSES, convolutions=False)
