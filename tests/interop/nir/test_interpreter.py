"""The interpreter against programs of a few lines, and its convolutions against torch."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from spikewright.interop.nir.graph import Node
from spikewright.interop.nir.interpreter import applied, simulate
from spikewright.interop.nir.reading import read_graph
from tests.interop.nir.graphs import affine, conv2d, cuba, graph, integrate, leaky, lif, node

DT = 1e-3


def drawn(*shape: int, scale: float = 2.0) -> np.ndarray[Any, Any]:
    return scale * np.random.default_rng(7).standard_normal(shape)


@pytest.mark.parametrize("exact", [False, True])
def test_an_lif_is_its_equation(exact: bool) -> None:
    content = graph(1, 1, {"n": lif(1, tau=4e-3, r=1.7, threshold=0.9, v_leak=0.2, v_reset=-0.3)})
    x, v, expected = drawn(60, 1, 1) + 1, 0.2, []
    for current in x.ravel():
        goal = 0.2 + 1.7 * current
        v = goal + (v - goal) * np.exp(-0.25) if exact else v + (goal - v) / 4
        expected.append(v > 0.9)
        v = -0.3 if v > 0.9 else v
    found = simulate(read_graph(content), x, DT, exact=exact).output.ravel()
    assert 5 < sum(expected) < 55 and found.tolist() == expected


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("kind", ["CubaLIF", "CubaLI"])
def test_a_current_is_its_equation_and_takes_its_step_first(kind: str, exact: bool) -> None:
    low = {"v_reset": -0.3, "v_threshold": 0.9} if kind == "CubaLIF" else {}
    content = graph(1, 1, {"n": cuba(kind, 1, v_leak=0.2, **low)})
    x, c, v, expected = drawn(60, 1, 1) + 0.8, 0.0, 0.2, []
    for current in x.ravel():
        c = 2.3 * current + (c - 2.3 * current) * np.exp(-1 / 2) if exact else c + (2.3 * current - c) / 2
        goal = 0.2 + 1.7 * c
        v = goal + (v - goal) * np.exp(-1 / 7) if exact else v + (goal - v) / 7
        expected.append(v > 0.9 if kind == "CubaLIF" else v)
        v = -0.3 if kind == "CubaLIF" and v > 0.9 else v
    found = simulate(read_graph(content), x, DT, exact=exact).output.ravel()
    assert kind == "CubaLI" or 5 < sum(expected) < 55
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_integrators_send_their_potential() -> None:
    x = drawn(20, 1, 1)
    found = simulate(read_graph(graph(1, 1, {"n": node("I", r=np.array([250.0]))})), x, DT)
    np.testing.assert_allclose(found.output, 0.25 * np.cumsum(x, 0), rtol=1e-12)
    assert not found.spikes and found.potentials["n"].shape == x.shape
    v, expected = 0.4, []
    for current in x.ravel():
        v += (0.4 - v + 1.3 * current) / 6
        expected.append(v)
    leaked = simulate(read_graph(graph(1, 1, {"n": leaky(1, v_leak=0.4)})), x, DT).output.ravel()
    np.testing.assert_allclose(leaked, expected, rtol=1e-12)


def test_an_if_starts_at_its_reset_and_a_soft_reset_keeps_the_rest() -> None:
    content = graph(1, 1, {"n": integrate(1, r=250.0, threshold=1.0, reset=0.5)})
    x = np.ones((6, 1, 1))
    hard = simulate(read_graph(content), x, DT, equality=True).output.ravel()
    assert hard.tolist() == [0, 1, 0, 1, 0, 1]  # 0.5, 0.75, 1.0
    assert simulate(read_graph(content), x, DT).output.ravel().tolist() == [0, 0, 1, 0, 0, 1]
    soft = simulate(read_graph(content), 1.2 * x, DT, soft=True).output.ravel()
    assert soft.tolist() == [0, 1, 0, 1, 1, 0]  # 0.8, 1.1 -> 0.6, 0.9, 1.2 -> 0.7, 1.0 rounds above -> 0.5, 0.8


def test_a_loop_takes_one_step_and_a_delay_in_it_takes_its_own() -> None:
    back = {"type": "Linear", "weight": np.array([[-3.0]])}
    nodes = {"n": integrate(1, r=1e3, threshold=0.9), "w": back}
    x = np.ones((6, 1, 1))
    plain = graph(1, 1, nodes, "input n,n w,w n,n output")
    assert simulate(read_graph(plain), x, DT).output.ravel().tolist() == [1, 0, 0, 0, 1, 0]
    nodes = {**nodes, "d": node("Delay", delay=np.array([2 * DT]))}
    late = graph(1, 1, nodes, "input n,n w,w d,d n,n output")
    assert simulate(read_graph(late), x, DT).output.ravel().tolist() == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_delays_in_a_row_add_up(names: str) -> None:
    nodes = {name: node("Delay", delay=np.array([steps * DT])) for name, steps in zip(names, (1, 2))}
    content = graph(1, 1, dict(sorted(nodes.items())), f"input {names[0]},{names[0]} {names[1]},{names[1]} output")
    x = np.arange(1.0, 7.0).reshape(-1, 1, 1)
    assert simulate(read_graph(content), x, DT).output.ravel().tolist() == [0, 0, 0, 1, 2, 3]


def test_given_spikes_are_sent_on_and_reset() -> None:
    content = graph(1, 1, {"n": integrate(1, threshold=2.5)})
    given = np.array([0.0, 1, 0, 0, 0]).reshape(-1, 1, 1)
    found = simulate(read_graph(content), np.ones((5, 1, 1)), DT, given={"n": given})
    assert found.output.ravel().tolist() == given.ravel().tolist()
    assert found.spikes["n"].ravel().tolist() == [False, False, False, False, True]


CONVOLUTIONS = [
    {"stride": (2, 1), "padding": (1, 2)},
    {"dilation": (2, 1), "groups": 2},
    {"padding": "same", "dilation": (1, 2)},
    {"padding": "valid", "groups": 4},
]


@pytest.mark.parametrize("kernel", [(3, 3), (2, 5), (1, 4)], ids=str)
@pytest.mark.parametrize("more", CONVOLUTIONS, ids=str)
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_convolutions_are_those_of_torch(more: dict[str, Any], kernel: tuple[int, int]) -> None:
    content = conv2d(8, 4, kernel, **more)
    x = drawn(3, 4, 9, 11)
    weight, bias = torch.from_numpy(content["weight"]), torch.from_numpy(content["bias"])
    expected = F.conv2d(torch.from_numpy(x), weight, bias, **{"stride": 1, **more})
    found = applied("c", Node("Conv2d", content), x)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-12)


def test_convolution_over_one_axis_is_that_of_torch() -> None:
    content = conv2d(6, 4, (3,), stride=2, padding=1, dilation=2, groups=2)
    x = drawn(3, 4, 12)
    weight, bias = torch.from_numpy(content["weight"]), torch.from_numpy(content["bias"])
    expected = F.conv1d(torch.from_numpy(x), weight, bias, 2, 1, 2, 2)
    np.testing.assert_allclose(applied("c", Node("Conv1d", content), x), expected.numpy(), atol=1e-12)


@pytest.mark.parametrize("kind", ["AvgPool2d", "SumPool2d"])
def test_pooling_counts_padding_as_zeros(kind: str) -> None:
    values = {"kernel_size": np.array([2, 3]), "stride": np.array([2, 1]), "padding": np.array([1, 1])}
    x = drawn(2, 3, 6, 7)
    expected = F.avg_pool2d(torch.from_numpy(x), (2, 3), (2, 1), (1, 1)).numpy() * (1 if kind == "AvgPool2d" else 6)
    np.testing.assert_allclose(applied("p", Node(kind, values), x), expected, atol=1e-12)


def test_edges_that_meet_are_a_sum_and_flatten_leaves_the_batch() -> None:
    nodes = {
        "a": affine(4, 6, 1),
        "b": affine(4, 6, 2),
        "flat": node("Flatten", start_dim=0, end_dim=-1, input_type=np.array([2, 3])),
    }
    content = graph((2, 3), 4, nodes, "input flat,flat a,flat b,a output,b output")
    x = drawn(2, 5, 2, 3)
    sums = sum(x.reshape(2, 5, 6) @ nodes[key]["weight"].T + nodes[key]["bias"] for key in "ab")
    np.testing.assert_allclose(simulate(read_graph(content), x, DT).output, sums, atol=1e-12)
