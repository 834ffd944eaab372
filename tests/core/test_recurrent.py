"""Recurrent layers run as an explicit loop does, in one piece or several, alone or among others."""

import io
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError, NetworkError, OutsideRun, ShapeError
from spikewright.layers import Feedback, Recurrent
from spikewright.network import Network
from spikewright.neurons import IF, LIF, AlphaLIF, Neuron
from tests.core.support import Lambda, lively
from tests.oracles.machine import Spike


class Diagonal(nn.Module):
    """A scale and a shift of every neuron by itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(width)), nn.Parameter(torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x + self.bias


TRANSFORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(6, 6), (6,)),
    "no bias": (lambda: nn.Linear(6, 6, bias=False), (6,)),
    "convolution": (lambda: nn.Conv2d(3, 3, 3, padding=1), (3, 5, 5)),
    "diagonal": (lambda: Diagonal(6), (6,)),
    "two layers": (lambda: nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 6)), (6,)),
}
every = pytest.mark.parametrize("name", TRANSFORMS)
both = pytest.mark.parametrize("first", ["nothing", "bias"])


def made(name: str, first: Any) -> tuple[nn.Module, Recurrent, Tensor]:
    """A transform, the layer with it, and an input that keeps it firing."""
    torch.manual_seed(1)
    make, feature = TRANSFORMS[name]
    transform = lively(make())
    return transform, Recurrent(LIF(tau=3.0), transform, first), 1.5 * torch.rand(7, 2, *feature)


def looped(transform: nn.Module, x: Tensor, first: str, sent: Tensor | None = None) -> Tensor:
    """The equations, step by step: spikes of leaky neurons of tau 3 with a soft reset."""
    membrane, spikes = torch.zeros_like(x[0]), []
    if sent is None and first == "bias":
        sent = torch.zeros_like(x[0])
    for step in x:
        current = step if sent is None else step + transform(sent)
        charged = (1 - 1 / 3) * membrane + current
        sent = Spike.apply(charged - 1.0)
        membrane = charged - sent.detach()
        spikes.append(sent)
    return torch.stack(spikes)


@every
@both
def test_spikes_and_gradients_are_those_of_a_loop(name: str, first: str) -> None:
    transform, layer, x = made(name, first)
    weights, found = torch.randn(x.shape), []
    for run in (lambda x: looped(transform, x, first), Network(nn.Sequential(layer))):
        given = x.clone().requires_grad_()
        spikes = run(given)
        wanted = [given, *transform.parameters()]
        found.append((spikes, torch.autograd.grad((weights * spikes).sum(), wanted)))
    (expected, by_loop), (spikes, gradients) = found
    assert 0.05 < spikes.mean() < 0.95 and torch.equal(spikes, expected)
    for ours, loop in zip(gradients, by_loop):
        assert loop.any()
        torch.testing.assert_close(ours, loop, rtol=1e-12, atol=1e-12)


def test_the_first_step_differs_by_the_bias_and_no_other_does() -> None:
    transform = nn.Linear(2, 2)
    with torch.no_grad():
        transform.weight.fill_(0.0)
        transform.bias.copy_(torch.tensor([0.25, -0.5]))
    currents: dict[str, list[Tensor]] = {}

    class Seen:
        def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None:
            currents.setdefault(first, []).append(current)

        def synapse(self, *args: Any) -> None:
            pass

    for first in ("nothing", "bias"):
        Network(nn.Sequential(Recurrent(IF(), transform, first))).run(torch.zeros(3, 1, 2), observers=[Seen()])  # type: ignore[arg-type]
    bias, zero = [0.25, -0.5], [0.0, 0.0]
    assert torch.cat(currents["nothing"]).tolist() == [zero, bias, bias]
    assert torch.cat(currents["bias"]).tolist() == [bias, bias, bias]


FEEDBACKS: dict[str, Callable[[Any], nn.Module]] = {
    "neurons": lambda first: nn.Sequential(
        nn.Linear(8, 6), Feedback(nn.Linear(5, 6), "4", first), LIF(), nn.Linear(6, 5), LIF(), nn.Linear(5, 4)
    ),
    "readout": lambda first: nn.Sequential(
        nn.Linear(8, 6), Feedback(nn.Linear(4, 6), "3", first), LIF(), nn.Linear(6, 4)
    ),
    "images": lambda first: nn.Sequential(
        nn.Linear(8, 32),
        nn.Unflatten(1, (2, 4, 4)),
        Feedback(nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.Upsample(scale_factor=2)), "5", first),
        LIF(),
        nn.Conv2d(2, 3, 3, padding=1),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(12, 4),
    ),
    "complex source": lambda first: nn.Sequential(
        nn.Linear(8, 6),
        Feedback(Lambda(lambda m, x: m.fc(x.imag), fc=nn.Linear(4, 6)), "3", first),
        LIF(),
        Lambda(lambda m, x: torch.complex(m.fc(x), m.fc(x) ** 2), fc=nn.Linear(6, 4)),
        Lambda(lambda m, x: x.abs()),
    ),
}


@pytest.mark.parametrize("name", FEEDBACKS)
def test_feedback_from_anywhere_adds_its_bias_at_the_first_step_too(name: str) -> None:
    """The shape of what a source sends is known from the wiring, whatever kind of module it is."""
    x = torch.rand(5, 3, 8)
    nets = [Network(lively(FEEDBACKS[name](first))) for first in ("nothing", "bias")]
    plain, biased = nets
    feedback = next(m for m in biased.modules() if isinstance(m, Feedback))
    last = plain.run(x[:1])[1]
    site = next(n for n, m in biased.module.named_modules() if m is feedback)
    rest = {site: {"last": torch.zeros_like(last[site]["last"])}}
    # Feedback of zeros by hand, with neurons at rest: what "bias" has to do by itself.
    membranes = {s: {"membrane": torch.zeros_like(v["membrane"])} for s, v in last.items() if "membrane" in v}
    for steps in (1, 5):
        ends = [biased.run(x[:steps]), plain.run(x[:steps], {**rest, **membranes}), plain.run(x[:steps])]
        outputs, (state, by_hand, without) = [output for output, _ in ends], [state for _, state in ends]
        assert torch.equal(outputs[0], outputs[1])
        assert all(torch.equal(state[s][key], by_hand[s][key]) for s in state for key in state[s])
        assert steps > 1 or not all(torch.equal(state[s]["membrane"], without[s]["membrane"]) for s in membranes)


def test_the_bias_of_another_batch_and_another_type() -> None:
    net = Network(FEEDBACKS["neurons"]("bias"))
    for rows, kind in ((3, torch.float64), (1, torch.float64), (7, torch.float32)):
        output, state = net.to(kind).run(torch.rand(2, rows, 8, dtype=kind))
        assert output.shape == (2, rows, 4) and output.dtype == state["1"]["last"].dtype == kind


def test_a_source_that_no_step_calls_has_no_known_shape() -> None:
    layers = dict(
        fc=nn.Linear(8, 6), back=Feedback(nn.Linear(6, 6), "unused", "bias"), lif=LIF(), unused=nn.Linear(6, 6)
    )
    net = Network(Lambda(lambda m, x: m.lif(m.back(m.fc(x))), **layers))
    with pytest.raises(NetworkError, match=r"'back' \(Feedback\) has first='bias'.*does not call the source, Linear"):
        net.run(torch.rand(3, 2, 8))
    layers["back"].first = "nothing"
    net.run(torch.rand(3, 2, 8))


# Networks with recurrent layers at several places.


class Own(nn.Module):
    """A module of a user, with a recurrent layer in a sequence, and a skip around it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 6), Recurrent(LIF(), nn.Linear(6, 6), "bias"))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x) + x[:, :6])


def several() -> nn.Module:
    back = nn.Linear(6, 6)
    layers = [Recurrent(LIF(3.0), back, "bias"), nn.Linear(6, 6), Recurrent(AlphaLIF(), back)]
    return nn.Sequential(nn.Linear(8, 6), *layers, nn.Linear(6, 4))


def nested() -> nn.Module:
    """The spikes come back through recurrent neurons, and a sequence in a sequence holds it all."""
    inner = nn.Sequential(nn.Linear(6, 5), Recurrent(LIF(), Diagonal(5)), nn.Linear(5, 6))
    return nn.Sequential(nn.Sequential(nn.Linear(8, 6), nn.Sequential(Recurrent(IF(), inner, "bias"))), nn.Linear(6, 4))


def in_feedback() -> nn.Module:
    """Feedback from the recurrent layer as a whole."""
    layer = Recurrent(LIF(), nn.Linear(6, 6))
    return nn.Sequential(nn.Linear(8, 6), Feedback(nn.Linear(6, 6), layer, "bias"), LIF(), nn.Linear(6, 6), layer)


NETS: dict[str, Callable[[], nn.Module]] = {
    "own": Own,
    "several": several,
    "nested": nested,
    "in feedback": in_feedback,
}
nets = pytest.mark.parametrize("name", NETS)


def as_feedback(module: nn.Module) -> nn.Module:
    """The same network with every recurrent layer written as feedback in front of its neurons."""
    module = deepcopy(module)
    for name, layer in [(n, m) for n, m in module.named_modules() if isinstance(m, Recurrent)][::-1]:
        back = Feedback(layer.transform, layer.neuron, layer.first)
        spread = Lambda(lambda m, x: m.neuron(m.back(x)), back=back, neuron=layer.neuron)
        outer, _, own = name.rpartition(".")
        setattr(module.get_submodule(outer), own, spread)
        for feedback in module.modules():
            if isinstance(feedback, Feedback) and feedback.source is layer:
                feedback._source = (spread,)
    return module


@nets
def test_it_is_feedback_in_front_of_neurons(name: str) -> None:
    module, x = lively(NETS[name]()), 1.5 * torch.rand(6, 3, 8)
    found = []
    for net in (Network(module), Network(as_feedback(module))):
        output, _ = net.run(x)
        names, parameters = zip(*net.module.named_parameters())
        grads = torch.autograd.grad(output.square().sum(), parameters)
        found.append({name.replace(".back.", "."): grad for name, grad in zip(names, grads)} | {"output": output})
    assert found[0].keys() == found[1].keys() and all(value.any() for value in found[0].values())
    assert torch.equal(found[0]["output"], found[1]["output"])
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-12, atol=1e-12)


@nets
@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_pieces_give_the_whole_bit_for_bit(name: str, pieces: int) -> None:
    net, x = Network(lively(NETS[name]())), 1.5 * torch.rand(6, 3, 8)
    whole, end = net.run(x)
    state, outputs = None, []
    for piece in x.split(pieces):
        stored = io.BytesIO()
        output, state = net.run(piece, state)
        outputs.append(output)
        torch.save({site: {k: v.detach() for k, v in own.items()} for site, own in state.items()}, stored)
        state = torch.load(io.BytesIO(stored.getvalue()))
    assert torch.equal(torch.cat(outputs), whole)
    assert state is not None and state.keys() == end.keys()
    assert all(torch.equal(state[site][key], end[site][key]) for site in end for key in end[site])


@nets
def test_copies_and_files_have_a_life_of_their_own(name: str) -> None:
    module, x = lively(NETS[name]()), 1.5 * torch.rand(4, 3, 8)
    net = Network(module)
    expected = net(x)
    stored = io.BytesIO()
    torch.save(module, stored)
    copies = [deepcopy(net).module, torch.load(io.BytesIO(stored.getvalue()), weights_only=False)]
    fresh = NETS[name]()
    fresh.load_state_dict(module.state_dict())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    for copy in (*copies, fresh):
        own = set(map(id, copy.modules()))
        assert {id(m.source) for m in copy.modules() if isinstance(m, Feedback)} <= own
        assert not own & set(map(id, net.modules())) and torch.equal(Network(copy)(x), expected)


def test_names_of_parameters_and_of_the_state() -> None:
    module = nn.Sequential(nn.Linear(8, 6), Recurrent(LIF(tau=3.0, learn_tau=True), nn.Linear(6, 6)))
    own = {"1.transform.weight", "1.transform.bias", "1.neuron.leak_logit"}
    assert set(module.state_dict()) == {"0.weight", "0.bias"} | own == {n for n, _ in module.named_parameters()}
    _, state = Network(module).run(torch.rand(3, 2, 8))
    assert {site: set(values) for site, values in state.items()} == {"1": {"last"}, "1.neuron": {"membrane"}}


def test_what_is_replaced_is_what_runs() -> None:
    layer, x = Recurrent(LIF(), nn.Linear(6, 6)), 2 * torch.rand(5, 2, 6)
    net = Network(nn.Sequential(layer))
    net(x)
    layer.neuron, layer.transform = LIF(3.0), lively(nn.Linear(6, 6))
    assert layer.source is layer.neuron
    assert torch.equal(net(x), looped(layer.transform, x, "nothing"))


@both
@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # from within torch's tracer
@pytest.mark.long
def test_it_compiles_in_one_graph(first: Any) -> None:
    net = Network(lively(nn.Sequential(nn.Linear(8, 6), Recurrent(LIF(), nn.Linear(6, 6), first), nn.Linear(6, 4))))
    x, found = 1.5 * torch.rand(4, 2, 8), []
    torch._dynamo.reset()
    for run in (net, torch.compile(net, backend="aot_eager", fullgraph=True)):
        output = run(x)
        found.append([output, *torch.autograd.grad(output.square().sum(), list(net.parameters()))])
    for plain, compiled in zip(*found):
        assert plain.any()
        torch.testing.assert_close(plain, compiled, rtol=1e-12, atol=1e-12)


# Refusals.

WRONG: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "no neuron": (
        lambda: Recurrent(nn.ReLU(), nn.Linear(4, 4)),
        ConfigError,
        r"neuron=ReLU\(\).*spiking.*a torch.*spikewright.LIF\(\)",
    ),  # type: ignore[arg-type]
    "a class": (lambda: Recurrent(LIF, nn.Linear(4, 4)), ConfigError, "the class LIF. Give an instance"),  # type: ignore[arg-type]
    "feedback": (
        lambda: Recurrent(Feedback(nn.Linear(4, 4), "0"), nn.Linear(4, 4)),
        ConfigError,
        "a spikewright.layers.feedback.Feedback. Give",
    ),  # type: ignore[arg-type]
    "a sequence": (lambda: Recurrent(nn.Sequential(LIF()), nn.Linear(4, 4)), ConfigError, "Sequential"),  # type: ignore[arg-type]
    "no module": (lambda: Recurrent(LIF(), lambda x: x), ConfigError, r"Recurrent\(transform=.*nn.Linear\(8, 8\)"),  # type: ignore[arg-type, return-value]
    "swapped": (lambda: Recurrent(nn.Linear(4, 4), LIF()), ConfigError, "neuron=Linear.*spiking neuron"),  # type: ignore[arg-type]
    "another first step": (
        lambda: Recurrent(LIF(), nn.Linear(4, 4), "zeros"),
        ConfigError,
        r"Recurrent\(first='zeros'\)",
    ),  # type: ignore[arg-type]
    "another first step of feedback": (
        lambda: Feedback(nn.Linear(4, 4), "0", True),  # type: ignore[arg-type]
        ConfigError,
        r"Feedback\(first=True\) is unknown",
    ),
    "outside a run": (
        lambda: Recurrent(LIF(), nn.Linear(4, 4))(torch.rand(2, 4)),
        OutsideRun,
        "LIF was called outside",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_one_clear_error(name: str) -> None:
    build, kind, message = WRONG[name]
    with pytest.raises(kind, match=message):
        build()


@both
@pytest.mark.parametrize("wide", [1, 5, 12])
def test_a_transform_that_changes_the_shape(wide: int, first: Any) -> None:
    """One number would be spread over all neurons, without a word."""
    net = Network(nn.Sequential(Recurrent(LIF(), nn.Linear(6, wide), first)))
    with pytest.raises(ShapeError, match=rf"current of its neurons, \[6\].*Linear made \[{wide}\] of spikes \[6\]"):
        net.run(torch.rand(1, 2, 6))


def twice(m: Any, x: Tensor) -> Tensor:
    return m.rec(m.fc(m.rec(x)))


def in_front(m: Any, x: Tensor) -> Tensor:
    return m.rec(m.fc(m.rec.neuron(x)))


def shared_neurons(m: Any, x: Tensor) -> Tensor:
    return m.other(m.fc(m.rec(x)))


@pytest.mark.parametrize("forward", [twice, in_front, shared_neurons])
def test_neurons_that_are_called_twice_have_two_outputs_to_send_back(forward: Callable[..., Tensor]) -> None:
    neuron = LIF()
    layers = dict(rec=Recurrent(neuron, nn.Linear(6, 6)), fc=nn.Linear(6, 6))
    if forward is shared_neurons:
        layers["other"] = Recurrent(neuron, nn.Linear(6, 6))
    with pytest.raises(NetworkError, match=r"\(Recurrent\) sends back .* called twice in a step.*Call it once"):
        Network(Lambda(forward, **layers)).run(torch.rand(3, 2, 6))


def test_an_own_forward_would_never_be_called() -> None:
    class Loud(Recurrent):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    with pytest.raises(NetworkError, match=r"'0' is Loud.*forward of its own"):
        Network(nn.Sequential(Loud(LIF(), nn.Linear(4, 4))))


def test_neurons_of_ones_own() -> None:
    class Halving(Neuron):
        leak = 2 / 3

    own = Halving(threshold=1.0, reset="subtract", detach_reset=True, surrogate=LIF().surrogate, inplace=False)
    transform, _, x = made("linear", "bias")
    assert torch.equal(Network(nn.Sequential(Recurrent(own, transform, "bias")))(x), looped(transform, x, "bias"))
