"""Mean currents and outputs: weighted as they should be, however a sequence arrives."""

from collections.abc import Callable
from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from spikewright.network import Network
from spikewright.network.rates import Mean, Record, mean, sum_of_weights
from spikewright.neurons import IF, LIF, Neuron
from spikewright.neurons.dsr import DSRLIF
from tests.nets import NETS, sample

CHANNELS = torch.tensor([0.0, 0.5, 1.0]).view(-1, 1, 1)
LEAKS: dict[str, float | Tensor] = {"none": 1.0, "some": 0.8, "all": 0.0, "channels": CHANNELS, "one": CHANNELS[1]}
every_leak = pytest.mark.parametrize("leak", LEAKS.values(), ids=list(LEAKS))


def moving(steps: int = 7) -> Tensor:
    """`[time, batch=2, channel=3, 4, 4]`."""
    return torch.rand(steps, 2, 3, 4, 4, generator=torch.Generator().manual_seed(steps), dtype=torch.float64)


def still(steps: int = 7) -> Tensor:
    return moving(1).expand(steps, -1, -1, -1, -1)


def by_hand(x: Tensor, leak: float | Tensor) -> Tensor:
    total, weights = torch.zeros(x.shape[1:]), torch.zeros(x.shape[1:])
    for step in x:
        total, weights = leak * total + step, leak * weights + 1
    return total / weights


@every_leak
def test_weights_fall_with_the_age_of_a_step(leak: float | Tensor) -> None:
    torch.testing.assert_close(mean(moving(), leak), by_hand(moving(), leak), rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(mean(still(), leak), moving(1)[0], rtol=1e-14, atol=1e-14)
    assert torch.equal(mean(moving(1), leak), moving(1)[0])


def test_three_steps() -> None:
    x = torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1)
    assert mean(x, 0.5).item() == pytest.approx((0.25 * 1 + 0.5 * 2 + 4) / 1.75, rel=1e-15)
    assert mean(x, 1.0).item() == pytest.approx(7 / 3, rel=1e-15) and mean(x, 0.0).item() == 4
    assert (sum_of_weights(0.5, 3), sum_of_weights(1.0, 3), sum_of_weights(0.0, 3)) == (1.75, 3.0, 1.0)
    assert torch.as_tensor(sum_of_weights(CHANNELS, 3)).flatten().tolist() == [1.0, 1.75, 3.0]


@every_leak
@pytest.mark.parametrize("sizes", [(7,), (1,) * 7, (3, 4), (1, 5, 1)])
def test_chunks_make_no_difference(leak: float | Tensor, sizes: tuple[int, ...]) -> None:
    """Whatever of them repeats one step; and what was added may be written over."""
    for pattern in product((moving, still), repeat=min(len(sizes), 3)):
        chunks = [pattern[n % len(pattern)](size) for n, size in enumerate(sizes)]
        whole, found = torch.cat(chunks), Mean(leak)
        for chunk in chunks:
            found.add(buffer := chunk.clone() if pattern[0] is moving else chunk)
            if buffer is not chunk:
                buffer.zero_()
        assert found.steps == 7
        torch.testing.assert_close(found.value, by_hand(whole, leak), rtol=1e-13, atol=1e-13)


@every_leak
def test_a_mean_can_be_read_on_the_way(leak: float | Tensor) -> None:
    found, x = Mean(leak), moving()
    found.add(x[:4])
    early = found.value
    torch.testing.assert_close(early, by_hand(x[:4], leak), rtol=1e-14, atol=1e-14)
    kept = early.clone()
    found.add(x[4:])
    assert torch.equal(early, kept)
    torch.testing.assert_close(found.value, by_hand(x, leak), rtol=1e-14, atol=1e-14)


def test_many_steps() -> None:
    """Sums are kept in single precision at least, and a leak forgets the start of a sequence."""
    assert mean(torch.ones(3000, 1, 1, dtype=torch.float16), 1.0).item() == 1
    x = torch.cat([torch.full((1000, 1, 1), 1e6), torch.ones(400, 1, 1)])
    assert mean(x, 0.9).item() == pytest.approx(1, rel=1e-9)
    assert mean(torch.ones(5000, 1, 1), 0.999).item() == pytest.approx(1, rel=1e-12)


NEURONS: dict[str, Callable[[], Neuron]] = {
    "if": IF,
    "lif": partial(LIF, 4.0),
    "dsr": DSRLIF,
    "channels": partial(LIF, [1.0, 2.0, 4.0]),
    "learned": partial(LIF, 4.0, learn_tau=True),
}


@pytest.mark.parametrize("name", NEURONS)
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("sizes", [(7,), (2, 5)])
def test_a_record_weighs_with_the_leak_of_the_neurons(name: str, plain: bool, sizes: tuple[int, ...]) -> None:
    neuron, record, current = NEURONS[name](), Record(0.3, plain), moving()
    output = current.flip(0).requires_grad_()
    for entered, left in zip(current.split(sizes), output.split(sizes)):
        record.neuron("1", neuron, entered, left)
    leak = torch.as_tensor(neuron.leak).detach()
    leak = leak.view(-1, 1, 1) if leak.dim() else leak
    rate = record.rates({}).neurons["1"]
    assert rate.steps == 7 and not rate.output.requires_grad
    torch.testing.assert_close(rate.current, by_hand(current, leak), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(rate.output, by_hand(output.detach(), leak), rtol=1e-13, atol=1e-13)
    expected = by_hand(output.detach(), 1.0) if plain else rate.output
    torch.testing.assert_close(rate.plain, expected, rtol=1e-13, atol=1e-13)


def test_a_record_weighs_what_is_sent_back_with_the_leak_of_its_source() -> None:
    record, x = Record(0.3), moving()
    for step in x.split(1):
        record.source("from neurons", NEURONS["lif"](), step)
        record.source("from channels", NEURONS["channels"](), step)
        record.source("from a layer", nn.AvgPool2d(2), step)
    sent = record.rates({}).sent
    expected = {"from neurons": 0.75, "from channels": torch.tensor([0, 0.5, 0.75]).view(-1, 1, 1), "from a layer": 0.3}
    for name, leak in expected.items():
        torch.testing.assert_close(sent[name], by_hand(x, leak), rtol=1e-13, atol=1e-13)


def test_some_samples_of_a_record() -> None:
    record, x, mask, some = Record(plain=True), moving(), torch.rand(2, 3), torch.tensor([False, True])
    record.neuron("1", NEURONS["lif"](), x, x.flip(0))
    record.source("2", NEURONS["lif"](), x)
    whole = record.rates({"1": {"membrane": x[0]}, "3": {"mask": mask}})
    part, rate = whole.of(some), whole.neurons["1"]
    assert whole.masks == {"3": {"mask": mask}} and torch.equal(part.masks["3"]["mask"], mask[1:])
    assert torch.equal(part.sent["2"], whole.sent["2"][1:]) and part.neurons["1"].steps == 7
    for found, expected in zip(vars(part.neurons["1"]).values(), (rate.current, rate.output, rate.plain)):
        assert torch.equal(found, expected[1:])


@pytest.mark.parametrize("name", ["two_leaks", "residual", "feedback", "shared"])
@pytest.mark.parametrize("chunk", [6, 4, 1])
def test_a_run_keeps_the_rates_of_every_neuron_layer(name: str, chunk: int) -> None:
    (x, _), net, record = sample(name, 0), Network(NETS[name](0)), Record()
    entered: dict[str, list[Tensor]] = {}
    left: dict[str, list[Tensor]] = {}

    class Watch:
        def neuron(self, site: str, current: Tensor, spikes: Tensor) -> None:
            entered.setdefault(site, []).extend(current.detach().unflatten(0, (-1, 3)))
            left.setdefault(site, []).extend(spikes.detach().unflatten(0, (-1, 3)))

        def synapse(self, site: str, operation: object, x: Tensor, weight: Tensor, current: Tensor) -> None:
            pass

    run = net.start(x, observers=[Watch()], record=record)
    for piece in x.split(chunk):
        run.advance(piece)
    rates, neurons = record.rates(run.state), net.wiring(x).neurons
    assert rates.neurons.keys() == neurons.keys() and not rates.masks
    for site, rate in rates.neurons.items():
        leak = float(neurons[site].leak)
        torch.testing.assert_close(rate.current, by_hand(torch.stack(entered[site]), leak), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(rate.output, by_hand(torch.stack(left[site]), leak), rtol=1e-12, atol=1e-12)
        assert 0.05 < rate.output.mean() < 0.95 and not rate.current.requires_grad
    assert list(rates.sent) == (["1"] if name == "feedback" else [])
    if name == "feedback":
        assert torch.equal(rates.sent["1"], rates.neurons["4"].output)
