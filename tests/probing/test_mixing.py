"""A module that combines the rows of the first axis is refused, whatever the data and the depth."""

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import SpikewrightError
from spikewright.network import Network
from spikewright.neurons import LIF
from tests.core.support import Lambda
from tests.probing.mixing import APART, MODULES, GhostNorm, OwnNorm, Recurrence, statistics
from tests.probing.support import F, N, T, around, data, refused, wired

SAYS = "stood in another row, among other samples, and more: it mixes the rows"


@pytest.mark.parametrize("behind", [0, 6])
@pytest.mark.parametrize("name", MODULES)
def test_rows_that_are_mixed(name: str, behind: int) -> None:
    refused(around(MODULES[name](), behind), rf"^'{2 * behind + 1}(\.\w+)?' .*{SAYS}")


@pytest.mark.parametrize("samples", [1, N])
@pytest.mark.parametrize("kind", ["zeros", "constant"])
@pytest.mark.parametrize("name", MODULES)
def test_whatever_the_data(name: str, kind: str, samples: int) -> None:
    refused(around(MODULES[name]()), SAYS, data(kind, samples))


@pytest.mark.parametrize("samples", [1, N])
@pytest.mark.parametrize("name", ["cumsum", "flip", "statistics", "MultiheadAttention", "roll back"])
def test_integers(name: str, samples: int) -> None:
    module = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(4 * F, F), MODULES[name](), LIF()).double()
    refused(module, SAYS, data("integers", samples))


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_recurrence_over_rows(kind: str, both: bool) -> None:
    with pytest.raises(SpikewrightError, match=rf"'1\.inner'.*{kind}|{kind}.*'1\.inner'"):
        wired(around(Recurrence(kind, both)))


@pytest.mark.parametrize("name", MODULES)
def test_one_layer_in_front_of_the_neurons_or_at_the_output(name: str) -> None:
    torch.manual_seed(0)
    refused(nn.Sequential(MODULES[name](), LIF()).double(), SAYS)
    if name not in ("largest of all", "top of the batch"):  # which may be the same for spikes, whatever the samples
        refused(nn.Sequential(nn.Linear(F, F), LIF(), MODULES[name]()).double(), SAYS)


@pytest.mark.parametrize("training", [True, False])
def test_a_module_is_not_blamed_for_what_it_is_given(training: bool) -> None:
    def forward(m: Lambda, x: Tensor) -> Tensor:
        return m.out(m.lif(m.fc(statistics(x))))

    module = Lambda(forward, fc=nn.Linear(F, F), lif=LIF(), out=nn.Linear(F, 4)).double().train(training)
    refused(module, f"The forward of Lambda itself .*{SAYS}")


def test_neurons_that_are_silent_on_the_data() -> None:
    module = around(OwnNorm(), behind=4)
    for p in module.parameters():
        if p.dim() > 1:
            p.data *= 1e-3
    refused(module, SAYS)


def test_a_norm_that_mixes_in_one_mode_only() -> None:
    class Own(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return statistics(x) if self.training else x

    module = around(Own())
    refused(module.train(), SAYS)
    wired(module.eval())


def test_what_an_inner_module_mixes_is_said_of_that() -> None:
    refused(around(nn.Sequential(nn.Tanh(), nn.Sequential(MODULES["cumsum"]()))), rf"'1\.1\.0' .*{SAYS}")


@pytest.mark.parametrize("samples", [1, N])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", APART)
def test_rows_that_are_not_mixed(name: str, training: bool, samples: int) -> None:
    wired(around(APART[name]()).train(training), data(samples=samples))


@pytest.mark.parametrize("name", APART)
def test_nor_with_input_that_is_all_the_same(name: str) -> None:
    wired(around(APART[name]()), data("zeros"))
    wired(around(APART[name]()), data("constant", 1))


def test_a_batch_norm_with_statistics_of_its_own_normalises_every_step_by_itself() -> None:
    module, x = around(GhostNorm(F)).train(), data(samples=4)
    net = Network(module)
    outputs, state = [], None
    for step in x:
        output, state = net.run(step[None], state)
        outputs.append(output)
    torch.testing.assert_close(net(x), torch.cat(outputs), rtol=1e-12, atol=1e-12)
    assert net(x).std() > 0.01


def test_a_mean_over_rows_that_nothing_reads() -> None:
    def forward(m: Lambda, x: Tensor) -> Tensor:
        m.penalty(x)
        return x

    wired(around(Lambda(forward, penalty=Lambda(lambda m, x: x.mean()))))


def test_one_that_is_read_behind_the_neurons() -> None:
    def forward(m: Lambda, x: Tensor) -> Tensor:
        spikes = m.lif(m.fc(x))
        return m.out(spikes) - m.penalty(spikes)

    layers = {"fc": nn.Linear(F, F), "lif": LIF(), "out": nn.Linear(F, 4), "penalty": Lambda(lambda m, x: x.mean())}
    refused(Lambda(forward, **layers).double(), f"'penalty' .*{SAYS}", torch.rand(T, N, F, dtype=torch.float64))
