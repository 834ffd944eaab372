"""Gradients kept out of old rows at every kind of linear and convolution layer, by each way to do it."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from spikewright.neurons import LIF
from spikewright.rules import BPTT, DSR, OTTT, Rule
from tests.nets import sample
from tests.oracles import hand
from tests.oracles.hlop import patches, rest, weight_gradient
from tests.rules.support import collected
from tests.subspaces.support import basis, drawn
from tests.subspaces.wrapping import assert_near, end_task, inputs, kept_out, net, old_rows, run, settled

LAYERS: dict[str, Callable[[], nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear]] = {
    "Conv1d": lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2),
    "Conv2d": lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
    "Conv2d, groups": lambda: nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4),
    "Conv2d, same": lambda: nn.Conv2d(4, 6, (2, 4), padding="same", dilation=(3, 1)),
    "Conv2d, same reflected": lambda: nn.Conv2d(4, 6, (2, 4), padding="same", padding_mode="reflect"),
    "Conv2d, circular": lambda: nn.Conv2d(4, 6, 3, padding=1, stride=2, padding_mode="circular"),
    "Conv3d": lambda: nn.Conv3d(4, 4, (2, 3, 1), padding=(0, 1, 0), stride=(1, 2, 2), groups=2),
    "Linear": lambda: nn.Linear(20, 6),
    "Linear over places": lambda: nn.Linear(5, 6),
}
SIZES = {"Conv1d": (4, 9), "Conv3d": (4, 3, 5, 4), "Linear": (20,), "Linear over places": (3, 4, 5)}
RULES: dict[str, Callable[[], Rule]] = {"BPTT": BPTT, "OTTT": OTTT, "DSR": DSR}


def network(kind: str) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A layer of that kind, neurons and a readout, and data for them."""
    torch.manual_seed(4)
    x, y = 2 * torch.rand(4, 3, *SIZES.get(kind, (4, 6, 7))), torch.tensor([0, 1, 2])
    layer = LAYERS[kind]()
    layer.weight.data *= 3  # so that neurons fire
    features = layer(x[0])[0].numel()
    return nn.Sequential(layer, LIF(), nn.Flatten(), nn.Linear(features, 3)), x, y


pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch, of its own copy of the input
every_layer = pytest.mark.parametrize("kind", LAYERS)


@every_layer
@pytest.mark.parametrize("rule", RULES)
def test_every_way_is_the_same(rule: str, kind: str) -> None:
    module, x, y = network(kind)
    plain = deepcopy(module)
    run(RULES[rule](), plain, x, y)
    for form in ("inputs", "gradient", "auto"):
        other = deepcopy(module)
        wrapped = settled(other, x, y, RULES[rule](), project=form)
        run(wrapped, other, x, y)
        for name, rows in old_rows(wrapped).items():
            whole, found = (m.get_parameter(name).grad for m in (plain, other))
            assert whole is not None and found is not None
            assert_near({name: found}, {name: kept_out(whole, rows)}, 1e-13)
            assert (found - whole).abs().max() > 1e-4


@every_layer
@pytest.mark.parametrize("form", ["inputs", "gradient"])
def test_gradients_see_nothing_of_orthonormal_rows(kind: str, form: str) -> None:
    module, x, y = network(kind)
    wrapped = settled(module, x, y, OTTT(), rows=0, project=form)
    for name, subspace in wrapped.subspaces.by_name().items():
        subspace.add(basis(subspace.size // 2, subspace.size, seed=len(name)))
    run(wrapped, module, x, y)
    for name, rows in old_rows(wrapped).items():
        grad = module.get_parameter(name).grad
        assert grad is not None and grad.abs().max() > 1e-4
        assert (grad.flatten(1) @ rows.T @ drawn(len(rows), 5)).abs().max() < 1e-13


def error_of_currents(module: nn.Sequential, x: Tensor, y: Tensor) -> Tensor:
    """BPTT's error at the currents of the first layer, `[time * batch, ...]`, by autograd on a plain simulation."""
    membrane, total = torch.zeros(()), torch.zeros(())
    currents = [module[0](step).detach().requires_grad_() for step in x]
    for current in currents:
        membrane = 0.5 * membrane + current
        spikes = LIF().surrogate(membrane - 1)
        membrane = membrane - spikes.detach()
        total = total + nn.functional.cross_entropy(module[3](spikes.flatten(1)), y) / len(x)
    return torch.cat(torch.autograd.grad(total, currents))


@pytest.mark.parametrize("form", ["inputs", "gradient"])
def test_a_convolution_by_explicit_loops(form: str) -> None:
    torch.manual_seed(4)
    first = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)
    module = nn.Sequential(first, LIF(), nn.Flatten(), nn.Linear(6 * 3 * 3, 3))
    x, y = 2 * torch.rand(3, 2, 4, 5, 5), torch.tensor([0, 2])
    wrapped = settled(module, x, y, BPTT(), project=form)
    run(wrapped, module, x, y)
    seen = patches(x.flatten(0, 1), (3, 2), (2, 1), (1, 0), (1, 2), groups=2)
    delta = error_of_currents(module, x, y).flatten(2)
    expected = weight_gradient(delta, seen, wrapped.subspaces["0"].old)
    assert first.weight.grad is not None
    assert_near({"0": first.weight.grad.flatten(1)}, {"0": expected}, 1e-13)


@pytest.mark.parametrize("form", ["inputs", "gradient"])
def test_every_step_projected_is_their_sum_projected(form: str) -> None:
    module, (x, y) = net("mlp"), sample("mlp", 0)
    wrapped = settled(module, x, y, BPTT(), project=form)
    run(wrapped, module, x, y)
    arrived, rows = inputs(module, x)["4"], wrapped.subspaces["4"].old
    delta = hand.output_error(module.get_submodule("4")(arrived).detach(), y)
    each = [torch.outer(d, rest(p, rows)) for d, p in zip(delta.flatten(0, 1), arrived.flatten(0, 1))]
    assert_near({"4": collected(module)["4.weight"]}, {"4": torch.stack(each).sum(0)}, 1e-13)


@pytest.mark.parametrize("form", ["inputs", "gradient"])
@pytest.mark.parametrize("online", [False, True])
def test_online_training_through_time_projects_traces(online: bool, form: str) -> None:
    module, (x, y) = net("two_leaks"), sample("two_leaks", 0)
    first, second = 1 / 3, 0.8
    params = {name: p.detach() for name, p in module.named_parameters()}
    leaks = [first, second]
    gradients = hand.chain(["0", "2", "4"], params, x, y, leaks, [*leaks, 0.0], [*leaks, 0.0])
    wrapped = settled(module, x, y, OTTT(online=online), project=form)
    run(wrapped, module, x, y)
    for name, rows in old_rows(wrapped).items():
        assert_near({name: collected(module)[name]}, {name: kept_out(gradients[name], rows)})


@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_with_one_step_time_does_not_matter(name: str) -> None:
    x, y = sample(name, 0)
    found = []
    for rule in (OTTT(), BPTT()):
        module = net(name)
        wrapped = settled(module, x[:1], y, rule)
        run(wrapped, module, x[:1], y)
        end_task(wrapped, module, x, y)
        found.append({**collected(module), **old_rows(wrapped)})
    assert_near(found[0], found[1], 1e-14)
