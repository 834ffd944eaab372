"""Graphs of every kind that is read, against the interpreter of the equations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import spikewright as sw
from spikewright.interop.nir import from_nir
from spikewright.interop.nir.interpreter import simulate
from spikewright.interop.nir.reading import read_graph
from tests.interop.nir.graphs import Content, affine, conv2d, cuba, graph, integrate, leaky, lif, node, written

DT = 1e-3


def chain() -> Content:
    return graph(5, 3, {"a": affine(8, 5, 1), "b": lif(8), "c": affine(3, 8, 2, bias=False), "d": integrate(3)})


def away_from_defaults() -> Content:
    """r, v_leak = v_reset, v_threshold and tau are none of 1, 0, 1; tau and r differ between neurons."""
    first = lif(8, r=3.0, threshold=1.25, v_leak=0.5, v_reset=0.5)
    first["tau"], first["r"] = np.linspace(2e-3, 9e-3, 8), np.linspace(1.0, 4.0, 8)
    second = lif(3, tau=3e-3, r=-2.0, threshold=-0.2, v_leak=-0.7, v_reset=-0.7)
    return graph(5, 3, {"a": affine(8, 5, 1), "b": first, "c": affine(3, 8, 2), "d": second})


def integrators_away_from_defaults() -> Content:
    first = integrate(8, r=400.0, threshold=0.75, reset=-0.5)
    return graph(5, 3, {"a": affine(8, 5, 1), "b": first, "c": affine(3, 8, 2), "d": integrate(3, -700.0, 2.0, 0.5)})


def thresholds() -> Content:
    nodes = {"a": affine(8, 5, 1), "t": node("Threshold", threshold=np.full(8, 0.8)), "c": affine(3, 8, 2)}
    return graph(5, 3, nodes)


def convolutions() -> Content:
    nodes = {
        "a": conv2d(4, 2, (3, 5), 1, padding=(1, 2), groups=2, stride=(1, 2)),
        "b": lif((4, 8, 5), r=2.0),
        "c": conv2d(4, 4, (3, 1), 2, padding="same", dilation=(2, 1)),
        "d": node("SumPool2d", kernel_size=np.array([2, 1]), stride=np.array([2, 1]), padding=np.array([1, 0])),
        "e": node("AvgPool2d", kernel_size=np.array([2, 2]), stride=np.array([2, 2]), padding=np.array([0, 1])),
        "f": node("Flatten", start_dim=1, end_dim=-1, input_type=np.array([4, 2, 3])),
        "g": node("Flatten", start_dim=0, end_dim=1, input_type=np.array([4, 6])),
        "h": integrate(24, r=300.0),
    }
    return graph((2, 8, 9), 24, nodes)


def one_axis() -> Content:
    nodes = {
        "a": conv2d(4, 2, (3,), 1, padding=1, groups=2, stride=2, dilation=1),
        "b": lif((4, 5)),
        "c": node("Scale", scale=np.linspace(0.5, 2, 20).reshape(4, 5)),
        "d": node("Scale", scale=np.full((4, 5), 3.0)),
        "e": lif((4, 5), tau=2e-3),
    }
    return graph((2, 9), (4, 5), nodes)


def sums() -> Content:
    """Two ways into one node, of which one skips a neuron."""
    nodes = {"a": affine(6, 5, 1), "b": lif(6), "c": affine(6, 6, 2), "d": affine(6, 5, 3), "e": lif(6)}
    return graph(5, 6, nodes, "input a,a b,b c,b e,c e,input d,d e,e output,b output")


def names_in_another_order() -> Content:
    """Names whose alphabetical order is against the edges."""
    nodes = {"10": affine(8, 5, 1), "2": lif(8), "1": affine(3, 8, 2), "train": lif(3)}
    return graph(5, 3, nodes, "input 10,10 2,2 1,1 train,train output")


def loop(back: Content) -> Callable[[], Content]:
    def content() -> Content:
        nodes = {"a": affine(8, 5, 1), "n": lif(8), "w": back, "z": affine(3, 8, 3), "m": lif(3)}
        return graph(5, 3, nodes, "input a,a n,n w,w n,n z,z m,m output")

    return content


def long_loop() -> Content:
    """Spikes of the second neuron go back to the layer in front of the first."""
    nodes = {"a": affine(8, 5, 1), "n": lif(8), "b": affine(8, 8, 2), "m": lif(8), "w": affine(5, 8, 3)}
    return graph(5, 8, nodes, "input a,a n,n b,b m,m w,w a,m output")


def loops_in_loops() -> Content:
    nodes = {
        "a": affine(6, 5, 1),
        "n": lif(6),
        "b": affine(6, 6, 2),
        "m": lif(6),
        "w": affine(6, 6, 3),
        "v": affine(6, 6, 4),
    }
    return graph(5, 6, nodes, "input a,a n,n b,b m,m w,w n,m v,v m,n m,m output")


def delays() -> Content:
    late = node("Delay", delay=DT * np.array([0, 1, 2, 3, 3, 1.0]))
    nodes = {"a": affine(6, 5, 1), "n": lif(6), "d": late, "b": affine(6, 6, 2), "m": lif(6)}
    return graph(5, 6, nodes)


def delay_in_a_loop(steps: int, bias: bool = False) -> Callable[[], Content]:
    def content() -> Content:
        back = affine(6, 6, 2, bias=bias)
        nodes = {"a": affine(6, 5, 1), "n": lif(6), "d": node("Delay", delay=np.full(6, steps * DT)), "w": back}
        return graph(5, 6, nodes, "input a,a n,n w,w d,d n,n output")

    return content


def bias_behind_a_delay() -> Content:
    nodes = {"a": affine(6, 5, 1), "n": lif(6), "d": node("Delay", delay=np.full(6, 2 * DT)), "w": affine(6, 6, 2)}
    return graph(5, 6, nodes, "input a,a n,n d,d w,w n,n output")


def nested() -> Content:
    inner = graph(5, 6, {"a": affine(6, 5, 1), "n": lif(6), "w": affine(6, 6, 3)}, "input a,a n,n w,w n,n output")
    outer = graph(6, 6, {"deeper": graph(6, 6, {"n": lif(6)}), "b": affine(6, 6, 2)})
    return graph(5, 6, {"first": inner, "second": outer, "m": lif(6)})


def currents() -> Content:
    """Every constant of a current differs between neurons."""
    each = {"tau_syn": np.linspace(1e-3, 4e-3, 8), "w_in": np.linspace(1, 3, 8), "r": np.linspace(0.5, 2, 8)}
    first = cuba("CubaLIF", 8, v_threshold=np.linspace(0.3, 1, 8), v_leak=-0.5, v_reset=-0.5, **each)
    second = cuba("CubaLIF", 3, tau_syn=5e-3, tau_mem=1.5e-3, v_threshold=1.5)
    return graph(5, 3, {"a": affine(8, 5, 1), "b": first, "c": affine(3, 8, 2), "d": second})


def thresholds_of_their_own() -> Content:
    first = {**lif((4, 6), r=2.0), "v_threshold": np.linspace(0.2, 1.5, 24).reshape(4, 6)}
    second = integrate(24, r=300.0) | {"v_threshold": np.linspace(0.5, 2, 24), "r": np.linspace(200, 900, 24)}
    flat = node("Flatten", start_dim=0, end_dim=-1, input_type=np.array([4, 6]))
    third = node("Threshold", threshold=np.linspace(0.2, 1.2, 3))
    nodes = {
        "a": conv2d(4, 2, (3,), 1, stride=1, padding=1, dilation=1),
        "b": first,
        "f": flat,
        "c": affine(24, 24, 2),
        "d": second,
    }
    return graph((2, 6), 3, {**nodes, "e": affine(3, 24, 3, scale=0.3), "g": third})


def readout(last: Content) -> Callable[[], Content]:
    def content() -> Content:
        nodes = {"a": affine(8, 5, 1), "b": cuba("CubaLIF", 8), "c": affine(3, 8, 2), "d": last}
        return graph(5, 3, nodes)

    return content


def potentials_between() -> Content:
    """A potential feeds neurons, and goes back to the layer in front of itself a step later."""
    nodes = {"a": affine(6, 5, 1), "n": leaky(6), "w": affine(6, 6, 2, scale=0.3), "m": lif(6)}
    return graph(5, 6, nodes, "input a,a n,n w,w n,n m,m output")


EACH = np.linspace(0.5, 2, 3)
GRAPHS: dict[str, Callable[[], Content]] = {
    "currents": currents,
    "thresholds_of_their_own": thresholds_of_their_own,
    "LI": readout(leaky(3, tau=3e-3 * EACH, r=EACH)),
    "I": readout(node("I", r=300 * EACH)),
    "CubaLI": readout(cuba("CubaLI", 3, tau_syn=3e-3 * EACH, w_in=EACH)),
    "potentials_between": potentials_between,
    "chain": chain,
    "away_from_defaults": away_from_defaults,
    "integrators_away_from_defaults": integrators_away_from_defaults,
    "thresholds": thresholds,
    "convolutions": convolutions,
    "one_axis": one_axis,
    "sums": sums,
    "names_in_another_order": names_in_another_order,
    "loop": loop(affine(8, 8, 2, bias=False)),
    "loop_with_bias": loop(affine(8, 8, 2)),
    "loop_through_nothing_but_a_scale": loop(node("Scale", scale=np.full(8, -0.4))),
    "long_loop": long_loop,
    "loops_in_loops": loops_in_loops,
    "delays": delays,
    "delay_of_one_in_a_loop": delay_in_a_loop(1),
    "delay_of_three_in_a_loop": delay_in_a_loop(3),
    "delay_behind_a_bias": delay_in_a_loop(2, bias=True),
    "bias_behind_a_delay": bias_behind_a_delay,
    "nested": nested,
}


def run(content: Any, x: np.ndarray[Any, Any], **how: Any) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        net = sw.Network(from_nir(content, dt=DT, **how))
        return net.run(torch.from_numpy(x))[0].numpy()


def drawn(content: Content, steps: int = 40) -> np.ndarray[Any, Any]:
    shape = content["nodes"]["input"]["shape"]
    return 2 * np.random.default_rng(3).standard_normal((steps, 3, *shape))


@pytest.mark.parametrize("decay", ["euler", "exact"])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_is_its_equations(name: str, reset: str, decay: str, float64: None) -> None:
    content = GRAPHS[name]()
    x = drawn(content)
    expected = simulate(read_graph(content), x, DT, soft=reset == "subtract", exact=decay == "exact")
    found = run(content, x, reset=reset, decay=decay)
    rates = {node: spikes.mean() for node, spikes in expected.spikes.items()}
    assert all(0.01 < rate < 0.99 for rate in rates.values()), rates
    np.testing.assert_allclose(found, expected.output, atol=1e-9)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_file_and_a_graph_in_memory_are_the_same(name: str, tmp_path: Path) -> None:
    content = GRAPHS[name]()
    x = drawn(content, 10).astype(np.float32)
    np.testing.assert_array_equal(run(written(content, tmp_path / "g.nir"), x), run(content, x))


def test_a_run_does_not_depend_on_how_a_sequence_is_cut(float64: None) -> None:
    content = loops_in_loops()
    x, net = torch.from_numpy(drawn(content)), sw.Network(from_nir(content, dt=DT))
    whole, (first, state) = net.run(x)[0], net.run(x[:17])
    assert torch.equal(whole, torch.cat([first, net.run(x[17:], state)[0]]))


def test_what_is_read_can_be_trained() -> None:
    net = sw.Network(from_nir(loop(affine(8, 8, 2))(), dt=DT))
    x, loss = torch.randn(8, 4, 5), sw.losses.OnRate(torch.nn.CrossEntropyLoss())
    for _ in sw.rules.BPTT().updates(net, x, torch.tensor([0, 1, 2, 1]), loss):
        gradients = {name: p.grad for name, p in net.named_parameters()}
    assert len(gradients) == 6 and all(g is not None and g.count_nonzero() for g in gradients.values())


@pytest.mark.parametrize(("comparison", "expected"), [(None, [0, 0, 1]), (">", [0, 0, 1]), (">=", [0, 1, 0])])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_neuron_fires_above_its_threshold_or_at_it(comparison: Any, expected: Any, dtype: Any) -> None:
    content = graph(1, 1, {"n": integrate(1, r=1 / DT, threshold=1.0)})
    net = sw.Network(from_nir(content, dt=DT, comparison=comparison, dtype=dtype))
    assert net.run(torch.full((3, 1, 1), 0.5, dtype=dtype))[0].flatten().tolist() == expected


def test_what_the_metadata_say_is_used_unless_an_argument_says_else() -> None:
    content = chain()
    content["metadata"] = {"dt": DT, "reset": "subtract", "comparison": ">="}
    module = from_nir(content)
    neuron = module.get_submodule("b")
    assert isinstance(neuron, sw.LIF) and neuron.reset == "subtract" and neuron.threshold == 0.5 and not neuron.strict
    assert neuron.tau == pytest.approx(5.0)
    other = from_nir(content, dt=2 * DT, reset="zero").get_submodule("b")
    assert isinstance(other, sw.LIF) and other.reset == "zero" and not other.strict and other.tau == pytest.approx(2.5)


def test_layers_have_the_names_of_the_nodes() -> None:
    assert [name for name, _ in from_nir(chain(), dt=DT).named_children()] == ["a", "b", "c", "d"]
    assert {"first_a", "first_n", "second_deeper_n", "m"} <= dict(from_nir(nested(), dt=DT).named_children()).keys()
