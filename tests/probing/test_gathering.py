"""What counts calls, what the first input sets, what evaluation reads of training: refused, and left as it was."""

import pytest
import torch
from torch import nn

from spikewright.errors import NetworkError
from spikewright.network import Network
from tests.probing.gathering import FREE, GATHERED, SET, STATES, ActNorm, Clipped, Inside, OfClass, Scripted
from tests.probing.support import around, data, refused, wired

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning"),
]


@pytest.mark.parametrize("name", STATES)
def test_states(name: str) -> None:
    refused(around(STATES[name]()), r"'1' \(\w+\) returned something else .*keeps a state")


@pytest.mark.parametrize("name", SET)
def test_set_by_the_first_input(name: str) -> None:
    refused(around(SET[name]()), r"'1' \(\w+\) .*sets itself by the first input")


def test_one_that_is_set_already() -> None:
    module, x = around(ActNorm()), data()
    module[1](module[0](x[0]))
    outputs, state, net = [], None, Network(module)
    for step in x:
        output, state = net.run(step[None], state)
        outputs.append(output)
    torch.testing.assert_close(net(x), torch.cat(outputs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", GATHERED)
def test_gathered_in_training_and_read_in_evaluation(name: str) -> None:
    module = around(GATHERED[name]())
    refused(module.train(), r"'1(\.norm)?' \(\w+\) gathers something while it trains")
    wired(module.eval())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", FREE)
def test_free(name: str, training: bool) -> None:
    wired(around(FREE[name]()).train(training))


@pytest.mark.parametrize("name", {**STATES, **SET, **GATHERED, **FREE})
def test_nothing_has_moved(name: str) -> None:
    module = around({**STATES, **SET, **GATHERED, **FREE}[name]())
    before = {key: value.clone() for key, value in module.state_dict().items()}
    calls = OfClass.calls
    try:
        wired(module)
    except NetworkError:
        pass
    after = module.state_dict()
    assert not any(p._backward_hooks for p in module.parameters())
    if isinstance(module[1], Inside):
        assert (
            module[1].slots.calls
            == module[1].user["calls"]
            == module[1].list[0]
            == module[1].dict["deep"]["calls"]
            == 0
        )
    assert before.keys() == after.keys() and OfClass.calls == calls
    for key, value in before.items():
        assert torch.equal(value.to_dense(), after[key].to_dense()), key


def test_nor_a_counter_of_a_scripted_module_or_one_behind_the_neurons() -> None:
    counting = torch.jit.script(Scripted())
    module = nn.Sequential(*around(nn.Tanh()), counting)
    with pytest.raises(NetworkError):
        wired(module)
    assert counting.calls == 0


def test_nor_a_weight_that_is_clipped() -> None:
    module = around(Clipped())
    before = module[1].inner.weight.clone()
    wired(module)
    assert torch.equal(module[1].inner.weight, before) and before.abs().max() > 0.05
