"""Neurons and models that have no exact equal here are refused, with the layer, the true reason and a way out."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError, ConversionError, ShapeError
from spikewright.interop import convert
from tests.interop.theirs import VALUES, imported, line, namespace, their_neuron


def jelly(name: str = "LIFNode", *given: Any, change: Callable[[Any], Any] = lambda node: node, **options: Any) -> Any:
    node = namespace("SpikingJelly")[name](*given, **options)
    change(node)
    return node


def snn(name: str = "Leaky", change: Callable[[Any], Any] = lambda cell: cell, **options: Any) -> Any:
    cell = namespace("snnTorch")[name](**({"beta": 0.5} | options))
    change(cell)
    return cell


def nabs(name: str = "LIF", **options: Any) -> Any:
    from importlib import import_module

    imported("sinabs")
    activation = import_module("sinabs.activation")
    if "spike_fn" not in options:
        options["spike_fn"] = activation.SingleSpike
    if isinstance(options.get("reset_fn"), str):
        options["reset_fn"] = eval(options["reset_fn"], vars(activation).copy())
    if isinstance(options["spike_fn"], str):
        options["spike_fn"] = eval(options["spike_fn"], vars(activation).copy())
    kind = getattr(import_module("sinabs.layers"), name)
    free, change = options.pop("free", True), options.pop("change", lambda layer: None)
    if options["spike_fn"] is ...:
        options.pop("spike_fn")
    layer = kind(**(({} if name.startswith("IAF") else {"tau_mem": 5.0}) | options))
    layer.requires_grad_(not free)
    change(layer)
    return layer


def norse(name: str = "LIFBoxCell", **given: Any) -> Any:
    names = namespace("Norse")
    return names[name](names[f"{name.removesuffix('Cell')}Parameters"](**given))


def of_norse(name: str, *given: Any, **options: Any) -> Any:
    imported("Norse")
    import norse.torch as library

    return getattr(library, name)(*given, **options)


ADAPTIVE = {"tau_mem": torch.tensor(5.0), "tau_adapt": torch.tensor(5.0)}


def setting(**values: Any) -> Callable[[Any], None]:
    def change(module: Any) -> None:
        for name, value in values.items():
            setattr(module, name, value)

    return change


def subclass_of(make: Callable[[], Any], **methods: Any) -> Any:
    neuron = make()
    neuron.__class__ = type("Mine", (type(neuron),), methods)
    return neuron


def hooked(neuron: Any) -> Any:
    neuron.register_forward_hook(lambda *seen: None)
    return neuron


def parametrized(neuron: Any) -> Any:
    torch.nn.utils.parametrize.register_parametrization(neuron, "beta", nn.Identity())
    return neuron


def silent(x: Tensor) -> Tensor:
    return (x > 0).to(x.dtype)


def escaping(x: Tensor) -> Tensor:
    return (torch.rand_like(x) < torch.sigmoid(x)).to(x.dtype) + 0 * x


def elementwise(function: Callable[..., Any], inside: Any = None) -> Any:
    inside = jelly() if inside is None else inside
    return namespace("SpikingJelly")["ElementWiseRecurrentContainer"](inside, function)


def with_layer(layer: nn.Module) -> Any:
    container = namespace("SpikingJelly")["LinearRecurrentContainer"](jelly(), 3, 3)
    container.rc = layer
    return container


def recurrent(**options: Any) -> Any:
    return snn("RLeaky", all_to_all=False, **options)


def of_torch(module: str, name: str, *given: Any, **options: Any) -> Any:
    from importlib import import_module

    imported("snnTorch")
    return getattr(import_module(f"snntorch._neurons.{module}"), name)(*given, **options)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    # SpikingJelly
    "potentials stored": (lambda: jelly(store_v_seq=True), r"stores its potentials \(store_v_seq=True\)"),
    "start elsewhere": (
        lambda: jelly(change=lambda n: n.set_reset_value("v", 0.3)),
        r"starts at 0.3 and is reset to 0.0",
    ),
    "smooth mode": (
        lambda: jelly(
            change=lambda n: n.surrogate_function.set_spiking_mode(False), surrogate_function=surrogate("Sigmoid")
        ),
        r"without spikes \(spiking=False\)",
    ),
    "random spikes": (
        lambda: jelly(surrogate_function=surrogate("PoissonPass")),
        r"spike function PoissonPass.* fails",
    ),
    "method replaced": (
        lambda: jelly(change=lambda n: setattr(n, "single_step_functional_forward", lambda *a: a)),
        r"single_step_functional_forward was replaced on the object",
    ),
    "unknown attribute": (
        lambda: jelly(change=setting(refractory=3)),
        r"attribute refractory=3, of which nothing is known",
    ),
    "charge overridden": (
        lambda: subclass_of(lambda: jelly("SimpleLIFNode", 2.0, True), neuronal_charge=lambda self, x: None),
        r"subclass of SimpleLIFNode that defines neuronal_charge",
    ),
    "forward overridden": (
        lambda: subclass_of(jelly, forward=lambda self, x: x),
        r"subclass of LIFNode that defines forward",
    ),
    "threshold below rest": (
        lambda: jelly(v_threshold=0.5, v_reset=0.75),
        r"threshold is -0.25 above where the potential rests",
    ),
    "half start": (lambda: jelly("HalfThresholdIFNode"), r"starts at half the threshold"),
    "hooks": (lambda: hooked(jelly()), r"hooks are registered on it"),
    "PSN": (lambda: jelly("PSN", 4), r"weighted sum of the whole sequence.* without a reset"),
    "MaskedPSN": (lambda: jelly("MaskedPSN", 2, 4), r"weighted sum of the whole sequence"),
    "SlidingPSN": (lambda: jelly("SlidingPSN", 2), r"weighted sum of the last k inputs"),
    "KLIF": (lambda: jelly("KLIFNode"), r"fires at relu\(k u\) with a k that it trains"),
    "QIF": (lambda: jelly("QIFNode"), r"a0 \(v - v_rest\)\(v - v_c\).*quadratic"),
    "EIF": (lambda: jelly("EIFNode"), r"delta_T exp\(\(v - theta_rh\)/delta_T\)"),
    "Izhikevich of SpikingJelly": (lambda: jelly("IzhikevichNode"), r"\(v - v_c\) - w\)/tau with a second variable w"),
    "GLIF": (lambda: jelly("GatedLIFNode", 4), r"mixes two leaks, two resets .* by gates"),
    "CLIF": (lambda: jelly("ComplementaryLIFNode"), r"lowers its potential by sigmoid\(m\)"),
    "LIAF": (lambda: jelly("LIAFNode", torch.relu, True), r"sends act\(u\) and not its spikes"),
    "ILIF": (lambda: jelly("ILIFNode"), r"rounded to the nearest number"),
    "ternary IF": (lambda: jelly("TernaryIFNode"), r"sends 1, 0 or -1"),
    "ternary LIF": (lambda: jelly("TernaryLIFNode"), r"sends 1, 0 or -1"),
    "RAF": (lambda: jelly("RAFNode"), r"oscillates with a second variable"),
    "MPBN": (lambda: jelly("MPBNLIFNode", out_features=3), r"batch norm at every step before it fires"),
    "DSR": (lambda: jelly("DSRIFNode"), r"gradient is that of a firing rate"),
    "DSR leaky": (lambda: jelly("DSRLIFNode"), r"gradient is that of a weighted firing rate"),
    "OTTT": (lambda: jelly("OTTTLIFNode"), r"cuts the gradient at every step by itself, and returns a trace"),
    "SLTT": (lambda: jelly("SLTTLIFNode"), r"cuts the gradient at every step by itself"),
    "activation aware": (lambda: jelly("ActivationAwareIFNode"), r"threshold=v_threshold - v_offset"),
    "ILC": (lambda: jelly("ILCIFNode", 1, 3), r"come back through a convolution inside it"),
    "largest potential": (lambda: jelly("NonSpikingLIFNode", decode="max-mem"), r"largest potential of the sequence"),
    "CUBA with a reset": (lambda: jelly("CUBALIFNode", v_reset=-0.5), r"reset to -0.5 and decays towards 0"),
    "CUBA without decay": (lambda: jelly("CUBALIFNode", v_decay=1.0), r"v_decay is 1, and here a decay is"),
    "product of spikes": (lambda: elementwise(lambda y, x: x * (1 - y)), r"is not the sum of the last spikes"),
    "container of layers": (lambda: elementwise(torch.add, nn.Tanh()), r"it holds a Tanh"),
    "container of an unknown neuron": (lambda: elementwise(torch.add, jelly("QIFNode")), r"it holds a QIFNode"),
    "other layer in a container": (lambda: with_layer(nn.Bilinear(3, 3, 3)), r"rc was replaced by Bilinear"),
    # snnTorch
    "late spikes": (lambda: snn(reset_delay=False), r"sends the next spike a step late"),
    "beta 0": (lambda: snn(beta=0.0), r"with beta=0 there is no such number"),
    "inhibition": (lambda: snn(change=setting(inhibition=True)), r"only the neuron with the highest potential"),
    "quantised": (lambda: snn(state_quant=torch.round), r"quantises its potential \(state_quant\)"),
    "trained beta of 1": (
        lambda: snn(beta=1.0, learn_beta=True, reset_mechanism="zero"),
        r"trains beta and starts at 1",
    ),
    "trained factor": (lambda: snn(learn_graded_spikes_factor=True), r"trains its graded_spikes_factor"),
    "factor 0": (lambda: snn(graded_spikes_factor=0.0), r"sent as 0"),
    "no surrogate": (lambda: snn(surrogate_disable=True), r"no backward pass"),
    "random": (lambda: snn(spike_grad=escaping), r"no step from 0 to 1"),
    "no gradient": (lambda: snn(spike_grad=silent), r"no backward pass"),
    "state function": (lambda: snn(change=setting(state_function=lambda x: x)), r"state_function was replaced"),
    "reset changed later": (
        lambda: snn(change=setting(reset_mechanism="subtract"), reset_mechanism="zero", reset_delay=False),
        r"changed to 'subtract' after it was made with 'zero'",
    ),
    "Lapicque zero": (lambda: snn("Lapicque", reset_mechanism="zero"), r"loses the input of the step after a spike"),
    "Lapicque leak": (lambda: snn("Lapicque", beta=False, R=1.0, C=0.5), r"leak 1 - time_step/\(R C\) is -1"),
    "spikes without a reset": (
        lambda: snn(reset_mechanism="none", init_hidden=True),
        r"never resets .* and returns its spikes alone",
    ),
    "recurrence without a reset": (lambda: recurrent(reset_mechanism="none"), r"spikes come back, and it never resets"),
    "recurrent zero": (lambda: recurrent(reset_mechanism="zero"), r"loses the input of the step after a spike"),
    "recurrent late": (lambda: recurrent(reset_delay=False), r"sends the next spike a step late"),
    "recurrent replaced": (
        lambda: recurrent(change=setting(recurrent=nn.Tanh())),
        r"recurrent was replaced by Tanh",
    ),
    "Synaptic zero": (
        lambda: snn("Synaptic", alpha=0.6, reset_mechanism="zero"),
        r"loses the input of the step after a spike.*reset_delay=False",
    ),
    "Synaptic late": (lambda: snn("Synaptic", alpha=0.6, reset_delay=False), r"sends the next spike a step late"),
    "alpha 1": (lambda: snn("Synaptic", alpha=1.0), r"alpha is 1, which is no finite time constant"),
    "Synaptic beta 1": (lambda: snn("Synaptic", alpha=0.5, beta=1.0), r"beta is 1, which is no finite time constant"),
    "trained alpha of a potential": (
        lambda: snn("Synaptic", alpha=0.5, learn_alpha=True, reset_mechanism="none"),
        r"trains alpha, and here the current",
    ),
    "one beta of several is 0": (
        lambda: snn(beta=torch.tensor([0.5, 0.0, 0.7])),
        r"with beta=0 there is no such number",
    ),
    "one beta of several is 1": (lambda: snn(beta=torch.tensor([0.5, 1.0, 0.7])), r"one beta of several is 1"),
    "several factors": (
        lambda: snn(graded_spikes_factor=torch.tensor([0.5, 1.0, 0.7])),
        r"graded_spikes_factor differs between the neurons",
    ),
    "threshold 0 of several": (lambda: snn(threshold=torch.tensor([0.5, 0.0, 0.7])), r"threshold is 0 above where"),
    "trained beta of Lapicque": (lambda: snn("Lapicque", learn_beta=True), r"computes with R and C"),
    "Alpha": (lambda: snn("Alpha", alpha=0.9), r"tau_alpha \(i_exc \+ i_inh\)"),
    "RSynaptic": (lambda: snn("RSynaptic", alpha=0.9, all_to_all=False), r"written into tensors in place"),
    "DeltaLeaky": (lambda: of_torch("deltaleaky", "DeltaLeaky", beta=0.5), r"change of its potential"),
    "StateLeaky": (lambda: of_torch("stateleaky", "StateLeaky", beta=0.5, channels=3), r"never resets its potential"),
    "LinearLeaky": (
        lambda: of_torch("linearleaky", "LinearLeaky", beta=0.5, in_features=3, out_features=3),
        r"holds a linear layer and runs a whole sequence",
    ),
    "LeakyParallel": (lambda: of_torch("leakyparallel", "LeakyParallel", 3, 3), r"nn.RNN with relu"),
    "AssociativeLeaky": (
        lambda: of_torch("associative", "AssociativeLeaky", 3, 3, 3, 9),
        r"state is a matrix",
    ),
    "SLSTM": (lambda: of_torch("slstm", "SLSTM", 3, 3), r"hidden state of an LSTM cell"),
    "SConv2dLSTM": (lambda: of_torch("sconv2dlstm", "SConv2dLSTM", 1, 3, 3), r"convolutional LSTM cell"),
    "parametrized": (lambda: parametrized(snn()), r"subclass of Leaky|parametrized"),
    # sinabs
    "another amount for several spikes": (
        lambda: nabs(spike_fn="MultiSpike", reset_fn="MembraneSubtract(0.5)"),
        r"each takes 0.5 off the potential instead of the threshold",
    ),
    "spike function of the user": (lambda: nabs(spike_fn=silent), r"spike_fn function is not one of the library's"),
    "bounded readout": (
        lambda: nabs("ExpLeak", spike_fn=..., min_v_mem=-1.0),
        r"lower bound \(min_v_mem=-1\), and here a neuron that sends its potential has none",
    ),
    "bound above rest": (lambda: nabs(min_v_mem=0.5), r"at least 0.5, above where it starts"),
    "trained threshold of sinabs": (
        lambda: nabs(
            spike_threshold=nn.Parameter(torch.tensor(1.0)), change=lambda n: n.spike_threshold.requires_grad_(True)
        ),
        r"trains its threshold, to which its spike function passes no gradient",
    ),
    "tau_syn trained": (
        lambda: nabs(free=False, tau_syn=3.0, norm_input=False),
        r"trains tau_syn, .*which scales its input too",
    ),
    "alpha_syn trained": (
        lambda: nabs(free=False, tau_syn=3.0, norm_input=False, train_alphas=True),
        r"trains alpha_syn, .*which scales its input too",
    ),
    "tau_mem trained, with a current": (
        lambda: nabs(free=False, tau_syn=3.0),
        r"trains tau_mem, .*scales its synaptic current too",
    ),
    "no leak, with a current": (
        lambda: nabs("IAF", tau_syn=torch.tensor(3.0)),
        r"\(tau_syn\) and its potential has none",
    ),
    "slope of several thresholds": (
        lambda: nabs(spike_threshold=torch.tensor([0.5, 1.0, 1.5])),
        r"SingleExponential.* depends on the threshold, which differs between its neurons",
    ),
    "slope of a threshold that moves": (
        lambda: nabs("ALIF", **ADAPTIVE),
        r"SingleExponential.* depends on the threshold, which moves with its spikes",
    ),
    "periodic slope of a threshold that moves": (
        lambda: nabs("ALIF", surrogate_grad_fn=slope_of("PeriodicExponential"), **ADAPTIVE),
        r"PeriodicExponential.* depends on the threshold, which moves",
    ),
    "ALIF trained": (
        lambda: nabs("ALIF", free=False, **ADAPTIVE),
        r"trains tau_mem, .*time constants of a neuron whose threshold adapts",
    ),
    "neurons in a recurrence": (
        lambda: nabs("LIFRecurrent", rec_connect=nn.Sequential(nn.Linear(3, 3), nabs())),
        r"inside a recurrent neuron",
    ),
    "reset to a value": (
        lambda: nabs(reset_fn="MembraneReset(-0.25)"),
        r"adds the value to the potential of every neuron",
    ),
    "reset of the user": (
        lambda: nabs(reset_fn=lambda spikes, state, threshold: state),
        r"reset_fn .*lambda.* is not one of the library's",
    ),
    "states recorded": (lambda: nabs(record_states=True), r"records its states"),
    # Norse
    "two rests": (lambda: norse(v_leak=0.25, v_reset=0.0), r"resets to 0 and leaks to 0.25"),
    "reset method": (
        lambda: norse(reset_method=lambda z, v, reset, th: v),
        r"reset_method <lambda> is not one of the library's",
    ),
    "no slope": (lambda: norse(method="heaviside"), r"no backward pass"),
    "trained threshold of Norse": (lambda: norse(v_th=nn.Parameter(torch.tensor(1.0))), r"v_th is trained"),
    "step longer than tau": (lambda: norse(tau_mem_inv=2000.0), r"no number from 0 to 1"),
    "two rests of LIFCell": (lambda: norse("LIFCell", v_leak=0.25, v_reset=0.0), r"resets to 0 and leaks to 0.25"),
    "two rests of LIFRecurrentCell": (
        lambda: of_norse("LIFRecurrentCell", 3, 3, namespace("Norse")["LIFParameters"](v_leak=0.25)),
        r"resets to 0 and leaks to 0.25",
    ),
    "current that does not decay": (
        lambda: norse("LIFCell", tau_syn_inv=0.0),
        r"dt tau_syn_inv is 0, so that its leak",
    ),
    "trained leak of Norse": (
        lambda: norse("LIFCell", tau_mem_inv=nn.Parameter(torch.tensor(100.0))),
        r"tau_mem_inv is trained",
    ),
    "adjoint": (
        lambda: norse("LIFCell", method="adjoint"),
        r"activation, or the state it starts from, is another function",
    ),
    "states of all steps": (lambda: of_norse("LIF", record_states=True), r"record_states=True"),
    "weights that are tensors": (
        lambda: of_norse("LIFRecurrentCell", 3, 3, recurrent_weights=torch.eye(3)),
        r"recurrent_weights are a tensor and no parameter",
    ),
    "potential with a rest": (lambda: norse("LICell", v_leak=0.5), r"sends its potential, which rests at v_leak=0.5"),
    "box with a rest": (lambda: norse("LIBoxCell", v_leak=0.5), r"sends its potential, which rests at v_leak=0.5"),
    "adjoint LSNN": (lambda: of_norse("LSNNCell", adjoint=True), r"its activation, or the state it starts from, is"),
    "LSNN recurrent": (lambda: of_norse("LSNNRecurrentCell", 3, 3), r"no gradient passes through its adaptation"),
    "Izhikevich": (lambda: izhikevich(), r"0.04 v\^2 \+ 5 v"),
    "exponential": (lambda: of_norse("LIFExCell"), r"grows by an exponential of itself"),
    "adaptive exponential": (lambda: of_norse("LIFAdExCell"), r"has an adaptation current"),
    "refractory": (lambda: of_norse("LIFRefracCell"), r"stand still for some steps"),
    "layer in an integrator": (lambda: of_norse("LILinearCell", 3, 3), r"a layer and an integrator in one"),
    "conductances": (lambda: of_norse("CobaLIFCell", 3, 3), r"conductances multiply"),
}


def surrogate(name: str) -> Any:
    imported("SpikingJelly")
    from spikingjelly.activation_based import surrogate as library

    return getattr(library, name)()


def slope_of(name: str) -> Any:
    imported("sinabs")
    import sinabs.activation as library

    return getattr(library, name)()


def izhikevich() -> Any:
    imported("Norse")
    from norse.torch.functional.izhikevich import tonic_spiking
    from norse.torch.module.izhikevich import IzhikevichCell

    return IzhikevichCell(tonic_spiking)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_by_its_true_reason(name: str) -> None:
    make, reason = REFUSED[name]
    neuron = make()
    with pytest.raises(ConversionError, match=rf"(?s)layer '1[.\w]*' is \w+ of \w+: .*{reason}") as refused:
        convert(nn.Sequential(nn.Linear(3, 3), neuron), torch.rand(4, 2, 3))
    text = str(refused.value)
    assert len(text) < 500 and re.search(r"\. [A-Z][^.]", text) and text.endswith(".") and ".." not in text, text


def test_there_are_enough_of_them() -> None:
    assert len(REFUSED) >= 30


def test_all_that_is_refused_is_named() -> None:
    pytest.importorskip("spikingjelly")
    model = nn.Sequential(jelly("CUBALIFNode", 2.0, 2.0), jelly(), jelly(store_v_seq=True))
    with pytest.raises(ConversionError, match=r"layer '0' is CUBALIFNode.*Also refused: '2'"):
        convert(model, torch.rand(4, 2, 3))


def test_a_model_without_such_neurons_is_refused() -> None:
    with pytest.raises(
        ConversionError, match=r"no neuron of SpikingJelly, snnTorch, sinabs or Norse.*Network\(model\)"
    ):
        convert(nn.Sequential(nn.Linear(3, 3)), torch.rand(4, 2, 3))


def test_two_libraries_in_one_model_are_refused() -> None:
    model = nn.Sequential(their_neuron(line("SpikingJelly"), VALUES["any"]), snn(init_hidden=True))
    with pytest.raises(ConversionError, match=r"neurons of SpikingJelly and snnTorch"):
        convert(model, torch.rand(4, 2, 3))


def test_arguments_are_checked() -> None:
    model = nn.Sequential(nn.Linear(3, 3), jelly())
    x = torch.rand(4, 2, 3)
    with pytest.raises(ConfigError, match=r"model"):
        convert("model", x)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"x has to be a tensor"):
        convert(model, [1.0])  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"at least one step and one sample"):
        convert(model, torch.rand(3))
    with pytest.raises(ShapeError, match=r"in float16.*x.float\(\)"):
        convert(model, x.half())
    with pytest.raises(ConfigError, match=r"convert\(step=3\)"):
        convert(model, x, step=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"convert\(double='yes'\)"):
        convert(model, x, double="yes")  # type: ignore[arg-type]
