"""Networks in NeuroBench: its counts are those of a network, and it is said where they are not."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.data import DataLoader, TensorDataset

import spikewright as sw
from spikewright.interop import neurobench_model

pytest.importorskip("snntorch")
pytest.importorskip("neurobench.benchmarks")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SAMPLES, STEPS, BATCH = 12, 5, 4


@pytest.fixture(autouse=True)
def single_precision() -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def network() -> sw.Network:
    inner = nn.Sequential(nn.Flatten(), nn.Linear(4 * 3 * 3, 8), sw.IF())
    return sw.Network(nn.Sequential(nn.Conv2d(1, 4, 3), sw.LIF(), nn.MaxPool2d(2), inner, nn.Linear(8, 3)))


def data() -> TensorDataset:
    return TensorDataset((torch.rand(SAMPLES, STEPS, 1, 8, 8) < 0.4).float() * 2, torch.arange(SAMPLES) % 3)


def benchmarked(model: Any, dataset: TensorDataset) -> dict[str, Any]:
    from neurobench.benchmarks import Benchmark
    from neurobench.metrics.static import ParameterCount
    from neurobench.metrics.workload import ActivationSparsity, ClassificationAccuracy, SynapticOperations

    metrics = [[ParameterCount], [ActivationSparsity, ClassificationAccuracy, SynapticOperations]]
    decide = [lambda output: output.mean(1).argmax(-1)]
    return Benchmark(model, DataLoader(dataset, BATCH), [], decide, metrics).run(quiet=True)


def test_its_metrics_are_those_of_the_network() -> None:
    net, dataset = network(), data()
    x, y = dataset.tensors
    model = neurobench_model(net, x[:2])
    found = benchmarked(model, dataset)
    output, counted = net.eval().run(x, batch_first=True)[0], 0.0
    for part in (x[i : i + BATCH] for i in range(0, SAMPLES, BATCH)):
        counted += sum(each.here for each in neurobench_model(net, part).counted)
    synops = found["SynapticOperations"]
    assert synops["Effective_MACs"] + synops["Effective_ACs"] == pytest.approx(counted / SAMPLES)
    assert synops["Effective_ACs"] > 0 and counted > 1000
    assert found["ClassificationAccuracy"] == pytest.approx((output.mean(1).argmax(-1) == y).double().mean().item())
    assert found["ParameterCount"] == sum(p.numel() for p in net.parameters())
    run = net.start(x.transpose(0, 1))
    run.advance(x.transpose(0, 1))
    sizes = {"1": 4 * 6 * 6, "3.2": 8}
    spikes = sum(run.rates()[name] * size for name, size in sizes.items()) / sum(sizes.values())
    assert found["ActivationSparsity"] == pytest.approx(1 - spikes, abs=1e-6)


def test_looking_at_the_network_is_not_counted() -> None:
    net, dataset = network(), data()
    model = neurobench_model(net, dataset.tensors[0][:2])
    model.register_hooks()
    model(dataset.tensors[0])
    assert [len(hook.inputs) for hook in model.connection_hooks] == [1, 1, 1]
    model(dataset.tensors[0])
    assert [len(hook.inputs) for hook in model.connection_hooks] == [2, 2, 2]
    assert [len(hook.activation_outputs) for hook in model.activation_hooks] == [2, 2]


def test_layers_agree_where_weights_are_plain() -> None:
    net = network()
    net.train()
    model = neurobench_model(net, data().tensors[0])
    assert [each.name for each in model.counted] == ["0", "3.1", "4"] and all(each.agree for each in model.counted)
    assert net.training and model.net is net


def normed() -> nn.Module:
    return parametrizations.weight_norm(nn.Conv2d(1, 4, 3))


def pruned() -> nn.Module:
    return prune.random_unstructured(nn.Conv2d(1, 4, 3), "weight", amount=0.5)


def transposed() -> nn.Module:
    return nn.ConvTranspose2d(1, 4, 3, padding=1)


@pytest.mark.parametrize("make", [normed, pruned, transposed, lambda: sw.layers.ScaledWSConv2d(1, 4, 3)])
def test_computed_weights_are_warned_of(make: Any) -> None:
    first, x = make(), data().tensors[0][:3]
    size = 4 * first(x[0]).shape[-1] ** 2
    net = sw.Network(nn.Sequential(first, sw.LIF(), nn.Flatten(), nn.Linear(size, 3)))
    with pytest.warns(UserWarning, match="NeuroBench counts operations that are not those of the network: .* in '0'"):
        model = neurobench_model(net, x)
    wrong = {each.name: each for each in model.counted}["0"]
    assert wrong.here > 0 and not wrong.agree
