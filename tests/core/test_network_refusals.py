"""Wrong use is one clear error before anything is learned."""

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import IncompatibleRule, InputError, NetworkError, ShapeError, SpikewrightError
from spikewright.layers import Feedback
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import OTTT, SLTT
from tests.catalogue import RULES, Entry
from tests.core.support import Lambda, two_layers
from tests.nets import NETS, sample
from tests.rules.support import NOISY, collected, learn, names, unless_refused

every_rule = pytest.mark.parametrize("entry", RULES, ids=names())


def test_a_batch_that_changes() -> None:
    net, (x, _) = Network(two_layers()), sample("mlp", 0)
    _, state = net.run(x)
    with pytest.raises(ShapeError, match=r"\[3, 12\].*same samples"):
        net.run(x[:, :2], state)


@every_rule
@pytest.mark.parametrize("name", ["plain", "masks", "feedback"])
def test_a_batch_that_changes_under_a_rule(entry: Entry, name: str) -> None:
    build = {"plain": two_layers, "masks": NOISY["mlp"], "feedback": lambda: NETS["feedback"](0)}[name]
    if name == "feedback":
        unless_refused(entry, "feedback")
    net, (x, y) = Network(build()), sample("mlp", 0)
    if name == "masks" and entry.rates:
        with pytest.raises(IncompatibleRule, match="draws a fresh mask at every step"):
            list(entry.make().updates(net, x, y, entry.loss))
        return
    state = list(entry.make().updates(net, x, y, entry.loss))[-1].state
    with pytest.raises(ShapeError, match="batch"):
        list(entry.make().updates(net, x[:, :2], y[:2], entry.loss, state))


@pytest.mark.parametrize("shape", [(0, 3, 8), (6, 0, 8), (8,)])
def test_no_step_or_no_sample(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"at least one step and one sample, but got \[.*x.expand\(steps"):
        Network(two_layers()).run(torch.zeros(shape))


def test_no_time_axis() -> None:
    with pytest.raises(ShapeError, match=r"'0' expects \[batch, ..., 8\].*\[time=3, batch=8, feature=\[\]\].*x.expand"):
        Network(two_layers()).run(torch.zeros(3, 8))


def test_an_input_that_does_not_fit_the_first_layer() -> None:
    with pytest.raises(ShapeError, match=r"'0' expects \[batch, 2, size, size\] .* got \[4, 3, 8, 8\]"):
        Network(NETS["conv"](0)).run(torch.zeros(6, 5, 3, 8, 8))


def test_an_input_of_another_dtype() -> None:
    with pytest.raises(ShapeError, match=r"dtype.*\[time=6, batch=3"):
        Network(two_layers().float()).run(torch.zeros(6, 3, 8, dtype=torch.float64))


@every_rule
def test_batch_first(entry: Entry) -> None:
    x, y = sample("mlp", 0)
    with pytest.raises(ShapeError, match=r"3 targets for x of \[time=3, batch=6.*batch-first: use x.transpose\(0, 1\)"):
        learn(entry.make(), two_layers(), x.transpose(0, 1), y)


@every_rule
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_not_finite(entry: Entry, value: float) -> None:
    (x, y), module = sample("mlp", 0), two_layers()
    x[2, 1, 5] = value
    with pytest.raises(InputError, match=r"\[6, 3, 8\] holds 1 value that is not finite, at \[2, 1, 5\]"):
        learn(entry.make(), module, x, y)
    assert not any(grad.any() for grad in collected(module).values())


@every_rule
@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_out_of_range(entry: Entry, label: int) -> None:
    (x, y), module = sample("mlp", 0), two_layers()
    y[1] = label
    with pytest.raises(InputError, match=rf"class indices from 0 to 3, .* 4 outputs, but y\[1\] is {label}"):
        learn(entry.make(), module, x, y, type(entry.loss)(nn.CrossEntropyLoss()))


def test_no_neuron() -> None:
    with pytest.raises(NetworkError, match=r"Sequential with no spiking neuron.*spikewright.LIF"):
        Network(nn.Sequential(nn.Linear(8, 4)))


def test_a_dropout_that_is_no_mask() -> None:
    with pytest.raises(NetworkError, match=r"'1' is AlphaDropout, which is not a multiplication by a mask"):
        Network(nn.Sequential(LIF(), nn.AlphaDropout()))


OUTPUTS = {
    r"\(a tensor .*, None\)": lambda m, x: (m.fc(m.lif(x)), None),
    r"\{'logits': a tuple\}|\{'logits': \(a tensor": lambda m, x: {"logits": (m.fc(m.lif(x)),)},
    r"\[5\]": lambda m, x: m.fc(m.lif(x)).mean(0),
    r"\[\]": lambda m, x: m.fc(m.lif(x)).mean(),
}


@pytest.mark.parametrize("found", OUTPUTS)
def test_an_output_that_is_not_one_row_per_sample(found: str) -> None:
    module = Lambda(OUTPUTS[found], fc=nn.Linear(8, 5), lif=LIF()).double()
    with pytest.raises(
        NetworkError, match=rf"Lambda.forward returned ({found}).* for 4 rows \(steps and samples, folded\)"
    ):
        Network(module).run(sample("mlp", 0)[0])


def test_layers_that_are_called_for_some_data_only() -> None:
    def forward(module: nn.Module, x: Tensor) -> Tensor:
        return module.out(module.lif(module.extra(x) if len(x) > 40 else x))

    module = Lambda(forward, extra=nn.Linear(8, 8), lif=LIF(), out=nn.Linear(8, 4)).double()
    with pytest.raises(NetworkError, match="'extra' was called, but not when the network was probed"):
        learn(OTTT(), module, *sample("mlp", 0, batch=41))
    learn(SLTT(), module, *sample("mlp", 0, batch=41))


@pytest.mark.parametrize("source, shown", [("lif9", "'lif9'"), (LIF(), "LIF")])
def test_feedback_from_nowhere(source: nn.Module | str, shown: str) -> None:
    with pytest.raises(NetworkError, match=rf"'0' takes its signal from {shown}, but the network has no such module"):
        Network(nn.Sequential(Feedback(nn.Linear(8, 8), source), LIF()))


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore")  # the compiler warns about itself
@pytest.mark.long
def test_a_compiled_module() -> None:
    with pytest.raises(NetworkError, match=r"compiled module.*Pass the plain module, and compile the stateless blocks"):
        Network(torch.compile(two_layers()))  # type: ignore[arg-type]


def test_all_of_them_belong_to_one_family() -> None:
    with pytest.raises(SpikewrightError):
        Network(nn.Linear(8, 4))
    with pytest.raises(ValueError):
        Network(nn.Linear(8, 4))
