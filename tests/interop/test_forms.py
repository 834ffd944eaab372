"""Forms of forwards: what is exactly convertible is converted, and what is not is refused by its true reason."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spikewright.errors import ConversionError, InputError
from spikewright.interop import convert
from spikewright.network import Network
from spikewright.neurons import LIF
from tests.interop.theirs import namespace

STEPS, BATCH, INPUTS, WIDTH = 6, 3, 5, 4


def sequence() -> Tensor:
    return 3 * torch.rand(STEPS, BATCH, INPUTS, generator=torch.Generator().manual_seed(1))


def jelly(**options: Any) -> Any:
    return namespace("SpikingJelly")["LIFNode"](**options)


def torches(**options: Any) -> Any:
    return namespace("snnTorch")["Leaky"](0.9, **options)


def hidden(**options: Any) -> Any:
    return torches(init_hidden=True, **options)


class Net(nn.Module):
    """A linear layer and a neuron, and a forward from outside."""

    def __init__(self, neuron: Any, forward: Callable[[Any, Tensor], Any], **own: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.lif = nn.Linear(INPUTS, WIDTH), neuron
        with torch.no_grad():
            self.fc.weight.abs_()
        for name, value in own.items():
            setattr(self, name, value)
        self.does = (forward,)

    def forward(self, x: Tensor) -> Any:
        return self.does[0](self, x)


def one(model: Any, x: Tensor) -> Any:
    return model.lif(model.fc(x))


def stack(many: Any) -> Tensor:
    return torch.stack(list(many))


def looped(model: Any, x: Tensor, name: str, first: Any) -> Tensor:
    """A loop over time that gives states by keyword."""
    state, sent = first, []
    for step in x:
        spikes, state = model.lif(model.fc(step), **{name: state})
        sent.append(spikes)
    return torch.stack(sent)


def rested(model: Any, x: Tensor) -> Tensor:
    model.lif.reset_mem()
    return stack(one(model, step) for step in x)


def recorded(model: Any, x: Tensor) -> dict[str, Tensor]:
    state, told = model.lif.init_leaky(), []
    for step in x:
        spikes, state = model.lif(model.fc(step), state)
        told.append((spikes, state))
    return {"spikes": stack(y[0] for y in told), "potential": stack(y[1] for y in told)}


# Float64


FLOAT: dict[str, Callable[[], Net]] = {
    "zeros, SpikingJelly": lambda: Net(jelly(), lambda m, x: m.lif(m.fc(x) + m.fc(torch.zeros(len(x), INPUTS)))),
    "float()": lambda: Net(jelly(), lambda m, x: m.lif(m.fc(x.float()))),
    "float() of a current": lambda: Net(jelly(), lambda m, x: m.lif(m.fc(x).float())),
    "zeros, Norse": lambda: Net(
        namespace("Norse")["LIFBoxCell"](dt=0.005),
        lambda m, x: m.lif(10 * (m.fc(x) + m.fc(torch.zeros(len(x), INPUTS))))[0],
    ),
}


@pytest.mark.parametrize("name", FLOAT)
def test_what_cannot_run_in_float64_is_converted_without(name: str) -> None:
    found = convert(FLOAT[name](), sequence())
    assert found.rows[0].fired and not found.rows[0].differing + found.rows[0].free
    told = [each for each in found.remarks if "not proven in float64" in each]
    assert len(told) == 1 and "x.new_zeros" in told[0] and ("float" in told[0].split("(Make")[0])
    with pytest.raises(ConversionError, match=r"double=True.*Net cannot be run in it.*[Ff]loat.*or leave double out"):
        convert(FLOAT[name](), sequence(), double=True)
    assert not any("float64" in each for each in convert(FLOAT[name](), sequence(), double=False).remarks)


# States


KEYWORDS: dict[str, Callable[[], Net]] = {
    "snnTorch": lambda: Net(torches(), lambda m, x: looped(m, x, "mem", m.lif.init_leaky())),
    "snnTorch, zeros": lambda: Net(torches(), lambda m, x: looped(m, x, "mem", x.new_zeros(x.shape[1], WIDTH))),
    "Norse": lambda: Net(namespace("Norse")["LIFBoxCell"](dt=0.005), lambda m, x: looped(m, 9 * x, "state", None)),
}


@pytest.mark.parametrize("name", KEYWORDS)
def test_states_may_be_given_by_keyword(name: str) -> None:
    model, x = KEYWORDS[name](), sequence()
    found = convert(model, x, double=False)
    assert found.proven and torch.equal(Network(found.module)(x), model(x))


def test_states_of_a_step_function_may_be_given_by_keyword() -> None:
    def step(model: Any, x: Tensor) -> Tensor:
        spikes, model.kept["mem"] = model.lif(model.fc(x), mem=model.kept.get("mem"))
        return spikes

    def swapped(model: Any, x: Tensor) -> Tensor:
        kept = model.kept
        spikes, kept["syn"], kept["mem"] = model.lif(model.fc(x), mem=kept.get("syn"), syn=kept.get("mem"))
        return spikes

    assert convert(Net(torches(), one, kept={}), sequence(), step=step).proven
    synaptic = namespace("snnTorch")["Synaptic"](alpha=0.5, beta=0.8)
    with pytest.raises(ConversionError, match="state of its own making"):
        convert(Net(synaptic, one, kept={}), sequence(), step=swapped)


def test_a_neuron_that_is_put_to_rest_in_the_forward_is_converted() -> None:
    model, x = Net(hidden(), rested), sequence()
    found = convert(model, x)
    assert found.proven and torch.equal(Network(found.module)(x), model(x))


def test_recordings_in_a_dictionary_are_returned() -> None:
    model, x = Net(torches(), recorded), sequence()
    ours, here = Network(convert(model, x).module)(x), model(x)
    assert isinstance(ours, dict) and ours.keys() == here.keys()
    torch.testing.assert_close(ours, here)


@pytest.mark.parametrize("trained", [False, True])
def test_constants_that_the_forward_reads_are_those_of_theirs(trained: bool) -> None:
    neuron = hidden(learn_beta=trained, threshold=0.8)
    model = Net(neuron, lambda m, x: m.lif(m.fc(x) * (2 - m.lif.beta) * m.lif.threshold))
    x = sequence()
    found = convert(model, x)
    out = Network(found.module)(x)
    neuron.reset_mem()
    theirs = stack(model(step) for step in x)
    assert found.proven and torch.equal(out, theirs)
    if trained:
        weights = torch.rand(out.shape)
        ours = next(p for name, p in found.module.named_parameters() if name.endswith("leak_logit"))
        (mine,) = torch.autograd.grad((weights * out).sum(), ours)
        (other,) = torch.autograd.grad((weights * theirs).sum(), neuron.beta)
        beta = neuron.beta.detach()
        torch.testing.assert_close(mine / (beta * (1 - beta)), other, rtol=1e-3, atol=1e-5)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "reads a potential of snnTorch": (
        lambda: Net(hidden(), lambda m, x: (one(m, x), m.lif.mem)),
        r"reads mem of 'lif', a state, as an attribute",
    ),
    "reads a potential of SpikingJelly": (
        lambda: Net(jelly(), lambda m, x: (one(m, x), m.lif.v)[1]),
        r"reads v of 'lif', a state, as an attribute",
    ),
    "sets a state": (
        lambda: Net(hidden(), lambda m, x: (setattr(m.lif, "mem", torch.ones(BATCH, WIDTH)), one(m, x))[1]),
        r"sets mem of 'lif'.*start at rest",
    ),
    "sets a constant": (
        lambda: Net(jelly(), lambda m, x: (setattr(m.lif, "v_threshold", 0.5), one(m, x))[1]),
        r"sets v_threshold of 'lif'.*Set it before convert",
    ),
    "calls a method": (
        lambda: Net(jelly(), lambda m, x: m.lif.single_step_forward(m.fc(x))),
        r"uses layer 'lif' through single_step_forward, and does not call it",
    ),
    "two states of one neuron": (
        lambda: Net(torches(), lambda m, x: m.lif(m.lif(m.fc(x), m.lif.init_leaky())[0], m.lif.init_leaky())[0]),
        r"used at 2 places of the forward.*one neuron per place",
    ),
    "one neuron in a sequence": (
        lambda: nn.Sequential(nn.Linear(INPUTS, INPUTS), *[*[hidden()] * 3]),
        r"used at 3 places of the forward.*one neuron per place",
    ),
    "several inputs": (
        lambda: needing_two(),
        r"takes mask beside its first input.*step=lambda model, x: model\(x, ",
    ),
    "DataParallel": (lambda: nn.DataParallel(Net(hidden(), one)), r"is DataParallel.*Give the module inside"),
    "compiled": (
        lambda: torch.compile(Net(hidden(), one), backend="eager"),  # type: ignore[return-value]
        r"is a compiled module.*compiled\._orig_mod",
    ),
    "float64": (lambda: Net(jelly(), one).double(), r"parameters are float64, and x is float32\. Give x\.double\(\)"),
    "a neuron of ours": (
        lambda: nn.Sequential(Net(hidden(), one), nn.Linear(WIDTH, 2), LIF(2.0)),
        r"layer '2' is LIF of spikewright.*put it behind",
    ),
    "no shape yet": (
        lambda: Net(hidden(), one, fc=nn.LazyLinear(WIDTH)),
        r"layer 'fc' is LazyLinear.*Run the model once, model\(x\[0\]\)",
    ),
    "a neuron in a list": (
        lambda: Net(hidden(), lambda m, x: m.more[0](one(m, x)), more=[hidden()]),
        r"'more\[0\]' is Leaky in a list.*nn\.ModuleList",
    ),
    "dropout that is always on": (
        lambda: Net(hidden(), lambda m, x: one(m, F.dropout(x, 0.5))),
        r"draws random numbers",
    ),
    "an encoder that draws": (
        lambda: Net(jelly(), lambda m, x: one(m, torch.bernoulli(x / 3))),
        r"run twice on the same x.*draws random numbers",
    ),
    "noise behind": (lambda: Net(jelly(), lambda m, x: one(m, x) + torch.randn(WIDTH)), r"draws random numbers"),
    "NaN inside": (lambda: Net(jelly(), lambda m, x: one(m, x.sub(9).log())), r"input of layer 'lif' is nan at"),
    "no loop, but a static batch": (
        lambda: Net(hidden(), lambda m, x: one(m, x.view(BATCH, -1))),
        r"runs on x, but not the converted model: RuntimeError: shape",
    ),
}


def needing_two() -> nn.Module:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.lif = nn.Linear(INPUTS, WIDTH), hidden()

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.lif(self.fc(x) * mask)

    return Two()


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_its_true_reason(name: str) -> None:
    make, reason = REFUSED[name]
    with pytest.raises(ConversionError, match=rf"(?s){reason}") as refused:
        convert(make(), sequence())
    assert "loops over time inside" not in str(refused.value)


@pytest.mark.long
def test_the_advice_for_other_refusals_works() -> None:
    torch.manual_seed(0)
    x = sequence()
    mask = torch.tensor([1.0, 0.5, 0.0, 1.0])
    assert convert(needing_two(), x, step=lambda model, x: model(x, mask)).rows
    assert convert(Net(jelly(), one).double(), x.double()).proven
    lazy = Net(hidden(), one, fc=nn.LazyLinear(WIDTH))
    lazy(x[0])
    assert convert(lazy, x).rows
    assert convert(nn.DataParallel(Net(hidden(), one)).module, x).proven
    places = nn.Sequential(nn.Linear(INPUTS, INPUTS), hidden(), hidden())
    assert len(convert(places, x).rows) == 2


# Steps that the forward makes


class Repeats(nn.Module):
    """The standard network of SpikingJelly: an image is repeated, and the rates are averaged."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.layers = nn.Sequential(nn.Linear(INPUTS, WIDTH), jelly(step_mode="m"))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.unsqueeze(0).repeat(self.steps, *[1] * x.dim()) if x.dim() == 2 else self.wrong(x)).mean(0)

    def wrong(self, x: Tensor) -> Tensor:
        raise RuntimeError("one image at a time")


@pytest.mark.long
def test_a_forward_that_repeats_its_input_gets_advice_that_works() -> None:
    x = sequence()[:1].expand(STEPS, BATCH, INPUTS)
    for step in (None, lambda model, x: model(x)):
        with pytest.raises(ConversionError, match=r"(?s)its forward makes 4 of it\. Set model\.steps = 1") as refused:
            convert(Repeats(4), x, step=step)
        assert "loops over time" not in str(refused.value)
    alone = convert(Repeats(1), x)
    assert any("called once per step" in each for each in alone.remarks)
    assert convert(Repeats(1), x, step=lambda model, x: model(x)).rows
    assert convert(Repeats(4), x, step=lambda model, x: model.get_submodule("layers")(x.unsqueeze(0)).squeeze(0)).rows


def test_a_loop_is_told_where_it_was_seen() -> None:
    model: Any = Net(jelly(), lambda m, x: sum(one(m, x) for _ in range(m.repeats)), repeats=4)
    with pytest.raises(ConversionError, match=r"(?s)loops over time inside.*model\.repeats = 1"):
        convert(model, sequence())
    model.repeats = 1
    assert convert(model, sequence()).proven


# Training mode


NORMS: dict[str, tuple[Any, Any]] = {
    "parametrization": (
        nn.utils.parametrizations.spectral_norm,
        lambda layer: nn.utils.parametrize.remove_parametrizations(layer, "weight"),
    ),
    "hook": (nn.utils.spectral_norm, nn.utils.remove_spectral_norm),
}


@pytest.mark.parametrize("normed", [False, True], ids=["alone", "before a batch norm"])
@pytest.mark.parametrize("name", NORMS)
def test_a_spectral_norm_is_named_and_the_advice_works(name: str, normed: bool) -> None:
    put, take = NORMS[name]
    torch.manual_seed(0)
    model = nn.Sequential(put(nn.Linear(INPUTS, WIDTH)), *[nn.BatchNorm1d(WIDTH)] * normed, hidden())
    with torch.no_grad():  # so that the power iteration is not at its end
        max(model.parameters(), key=lambda p: p.numel()).normal_()
    with torch.no_grad():  # so that the power iteration is not at its end
        max(model.parameters(), key=lambda p: p.numel()).normal_()
    with torch.no_grad():  # so that the power iteration is not at its end
        max(model.parameters(), key=lambda p: p.numel()).normal_()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ConversionError, match=r"in training mode '0\.\S*_u.*power iteration.*remove_spectral_norm"):
        convert(model, 3 * sequence())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items() if value.numel())
    take(model[0])
    assert convert(model, 3 * sequence()).rows


@pytest.mark.filterwarnings("ignore:The code in the forward")
@pytest.mark.filterwarnings("ignore:The code in the forward")
@pytest.mark.filterwarnings("ignore:The code in the forward")
def test_a_counter_is_told_and_noise_in_training_is_not_compared() -> None:
    counting = Net(jelly(), lambda m, x: (m.calls.add_(1), one(m, x))[1])
    counting.register_buffer("calls", torch.zeros(()))
    assert any("'calls' changed in training mode" in each for each in convert(counting, sequence()).remarks)
    noisy = nn.Sequential(
        Net(nn.BatchNorm1d(WIDTH), lambda m, x: one(m, x + torch.randn(INPUTS) * m.training)), jelly()
    )
    found = convert(noisy, sequence())
    assert "training mode is not compared, in which the forward draws random numbers" in found.remarks


# What stays as it was


@pytest.mark.parametrize("what", ["sub_", "mul_", "add_"])
def test_a_forward_that_changes_its_input_in_place_is_converted(what: str) -> None:
    model, x = Net(jelly(), lambda m, x: one(m, getattr(x, what)(0.5))), sequence()
    found = convert(model, x)
    assert found.proven and torch.equal(x, sequence())


def moving(model: Any, x: Tensor) -> Tensor:
    model.mean = 0.9 * model.mean + 0.1 * x.mean(0).detach()  # another tensor
    model.count += 1
    model.log.append(len(x))
    return one(model, x)


def test_buffers_and_attributes_stay_as_they_were() -> None:
    model: Any = Net(jelly(), moving, log=[])
    model.register_buffer("mean", torch.zeros(INPUTS))
    model.register_buffer("count", torch.zeros(()))
    buffers = (model.mean, model.count)
    module: Any = convert(model, sequence()).module
    for each in (model, module):
        assert (each.mean is buffers[0]) and (each.count is buffers[1])
        assert not each.mean.any() and not each.count and each.log == []


def test_they_stay_when_it_is_refused() -> None:
    def counted(model: Any, x: Tensor) -> Tensor:
        model.count += 1
        model.log.append(len(x))
        return one(model, x).cumsum(0)

    model: Any = Net(jelly(step_mode="m"), counted, log=[])
    model.register_buffer("count", torch.zeros(()))
    with pytest.raises(ConversionError, match="not the output"):
        convert(model, sequence())
    assert not model.count and model.log == []


class Closure(nn.Module):
    """Layers behind a function that holds on to the model."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm, self.lif = nn.Linear(INPUTS, WIDTH), nn.BatchNorm1d(WIDTH), hidden()
        self.f = lambda x: self.lif(self.norm(self.fc(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.f(x)


def test_a_function_that_holds_on_to_the_model_is_named() -> None:
    model = Closure()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ConversionError, match=r"calls 'fc' of the model itself.*def f\(self, x\)"):
        convert(model, sequence())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert not model.lif.mem.numel()
    outside = Net(hidden(), one)
    with pytest.raises(ConversionError, match=r"a step that uses model of outside and not its first argument"):
        convert(outside, sequence(), step=lambda model, x: one(outside, x))


@pytest.mark.long
def test_layers_of_sinabs_that_fold_and_that_do_not_stand_together() -> None:
    namespace("sinabs")
    import sinabs.layers as layers

    torch.manual_seed(0)
    model: Any = nn.Sequential(
        nn.Linear(INPUTS, WIDTH), layers.IAFSqueeze(batch_size=BATCH), nn.Linear(WIDTH, 2), layers.UnflattenTime(BATCH),
        layers.IAF(),
    )  # fmt: skip
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight.abs_()
    found = convert(model, sequence())
    ours = Network(found.module)(sequence())
    for neuron in (model[1], model[4]):
        neuron.reset_states()
    theirs = model(sequence().transpose(0, 1).flatten(0, 1))
    assert found.proven and torch.equal(ours, theirs.transpose(0, 1))


# What is no parameter, and no number


def test_what_trains_without_being_a_parameter_is_shared_and_told() -> None:
    scale = torch.ones(WIDTH, requires_grad=True)
    more = [nn.Linear(WIDTH, WIDTH)]
    model: Any = Net(jelly(), lambda m, x: m.lif(m.more[0](m.fc(x)) * m.scale), scale=scale, more=more)
    with torch.no_grad():
        model.more[0].weight.abs_().mul_(3)
    found = convert(model, sequence())
    assert any("'scale' is a tensor with requires_grad that is no parameter" in each for each in found.remarks)
    assert any("'more[0]' (Linear) is shared with the model" in each for each in found.remarks)
    Network(found.module)(sequence()).sum().backward()
    assert scale.grad is not None and scale.grad.any() and model.more[0].weight.grad.any()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_input_that_is_not_finite_is_refused(value: float) -> None:
    x = sequence()
    x[2, 1, 0] = value
    with pytest.raises(InputError, match=rf"x is {value} at \[2, 1, 0\].*1 of 90 values"):
        convert(Net(jelly(), one), x)
