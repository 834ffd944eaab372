"""Every option of the neurons against explicit loops: spikes, potentials, gradients, and what a copy keeps of them."""

import io
import os
import pickle
import subprocess
import sys
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright.errors import ShapeError
from spikewright.layers import Feedback
from spikewright.network import Network
from spikewright.neurons import ALIF, CUBALIF, IF, LI, LIF, Neuron
from spikewright.temporal import SiteState
from tests.kernels.support import needs_kernels
from tests.oracles.neurons import CASES, INTEGRATORS, Case, Equations, by_hand, looped

ALL = {**CASES, **INTEGRATORS}
every = pytest.mark.parametrize("name", ALL)
spiking = pytest.mark.parametrize("name", CASES)
T, N, C = 12, 2, 3


def currents(*space: int, seed: int = 0) -> Tensor:
    """Return multiples of a quarter, so that thresholds are met exactly."""
    source = torch.Generator().manual_seed(seed)
    return torch.randint(-4, 10, (T, N, C, *space), generator=source).double() / 4


def reads(make: Any, potential: Any) -> Neuron:
    """Return a neuron that returns a potential too."""
    neuron: Neuron = make().double()
    neuron.potential = potential
    return neuron


def one_channel(e: Equations, channel: int) -> Equations:
    given = {f.name: getattr(e, f.name) for f in fields(e)}
    several = {n: v.detach().expand(C)[channel].item() for n, v in given.items() if isinstance(v, Tensor)}
    return replace(e, **several)


def scanned(neuron: Neuron, x: Tensor, *lengths: int) -> tuple[Tensor, Tensor | None, SiteState]:
    state: SiteState = {}
    rows = []
    for piece in x.split(list(lengths) or [len(x)]):
        output, state = neuron.scan(piece, state, True)
        rows.append(output if isinstance(output, tuple) else (output, None))
    spikes, potentials = zip(*rows)
    return torch.cat(spikes), None if potentials[0] is None else torch.cat(potentials), state


@every
@pytest.mark.parametrize("potential", ["before reset", "after reset"])
def test_spikes_and_potentials_are_those_of_plain_numbers(name: str, potential: str) -> None:
    case, x = ALL[name], currents()
    fires = name in CASES
    neuron = reads(case.make, potential if fires else None)
    with torch.no_grad():
        sent, read, state = scanned(neuron, x)
    equations, total = case.equations(dict(neuron.named_parameters())), 0.0
    for n in range(N):
        for c in range(C):
            spikes, before, after = by_hand(x[:, n, c].tolist(), one_channel(equations, c))
            if not fires:
                assert sent[:, n, c].tolist() == pytest.approx(after, rel=1e-12, abs=1e-12)
                continue
            total += sum(spikes)
            assert sent[:, n, c].tolist() == case.sends(torch.tensor(spikes)).tolist()
            assert read is not None
            expected = before if potential == "before reset" else after
            assert read[:, n, c].tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12)
            assert state["membrane"][n, c].item() == pytest.approx(after[-1], rel=1e-12, abs=1e-12)
    assert not fires or 0.1 < total / (T * N * C)


def gradients(outputs: tuple[Tensor, ...], leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(3)
    weighted = [(torch.randn(y.shape, generator=source, dtype=y.dtype) * y).sum() for y in outputs]
    found = torch.autograd.grad(torch.stack(weighted).sum(), list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, found))


@every
@pytest.mark.parametrize("space", [(), (2, 4)], ids=["vectors", "maps"])
@pytest.mark.parametrize("through_time", [True, False])
@pytest.mark.parametrize("potential", [None, "before reset", "after reset"])
def test_gradients_are_those_of_a_loop(name: str, space: tuple[int, ...], through_time: bool, potential: Any) -> None:
    case = ALL[name]
    if name not in CASES and potential is not None:
        return
    neuron, x = reads(case.make, potential), currents(*space).requires_grad_()
    output, _ = neuron.scan(x, {}, through_time)
    found = gradients(output if isinstance(output, tuple) else (output,), {"x": x, **dict(neuron.named_parameters())})

    leaves = {n: p.detach().clone().requires_grad_() for n, p in neuron.named_parameters()}
    leaves = {"x": x.detach().clone().requires_grad_(), **leaves}
    spikes, before, after = looped(leaves["x"], case.equations(leaves), cut=not through_time)
    read = {"before reset": (before,), "after reset": (after,), None: ()}[potential]
    expected = gradients((case.sends(spikes), *read) if name in CASES else (after,), leaves)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert value.any() or not through_time, key
        torch.testing.assert_close(found[key], value, rtol=1e-10, atol=1e-12)


SMOOTH = {name: case for name, case in ALL.items() if "learned" in name}


@pytest.mark.parametrize("name", SMOOTH)
def test_learned_constants_move_potentials_as_their_gradients_say(name: str) -> None:
    """Finite differences of the potential, below the threshold and after spikes that stay the same."""
    case = SMOOTH[name]
    neuron = reads(case.make, "after reset" if name in CASES else None)
    neuron.detach_reset = True
    x = currents() + 0.1 * torch.rand(T, N, C, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def read() -> tuple[Tensor, Tensor]:
        output, _ = neuron.scan(x, {}, True)
        return output if isinstance(output, tuple) else (torch.zeros(()), output)

    spikes, potential = read()
    assert spikes.any() or name not in CASES
    weights = torch.randn(potential.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    parameters = dict(neuron.named_parameters())
    if isinstance(neuron, ALIF):
        del parameters["beta"]  # which moves the firing point alone
    expected = dict(zip(parameters, torch.autograd.grad((weights * potential).sum(), list(parameters.values()))))
    for key, parameter in parameters.items():
        moved = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * 1e-6 * moved
                fired, value = read()
                parameter -= sign * 1e-6 * moved
            assert torch.equal(fired, spikes)
            ends.append((weights * value).sum())
        slope = float((ends[0] - ends[1]) / 2e-6)
        assert slope == pytest.approx(_without_spikes(name, case, neuron, x, weights, key, moved), rel=1e-5)
        assert expected[key].isfinite().all()


def _without_spikes(
    name: str, case: Case, neuron: Neuron, x: Tensor, weights: Tensor, key: str, moved: Tensor
) -> float:
    """Return the derivative along a change by forward mode, which does not see the slope of a spike."""
    leaves = {n: p.detach().clone().requires_grad_() for n, p in neuron.named_parameters()}
    *_, after = looped(x, _unsurrogated(case.equations(leaves)))
    return float((torch.autograd.grad((weights * after).sum(), leaves[key])[0] * moved).sum())


def _unsurrogated(e: Equations) -> Equations:
    return replace(e, attached=False)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_pieces_are_the_whole_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    x = currents(2, 4).to(dtype)
    results = []
    for lengths in ((T,), (1,) * T, (5, T - 5)):
        neuron = ALL[name].make()
        neuron.potential = "after reset" if name in CASES else None
        leaf = x.clone().requires_grad_()
        sent, read, state = scanned(neuron, leaf, *lengths)
        assert sent.dtype == dtype and (read is None or read.dtype == dtype)
        assert all(value.dtype == torch.promote_types(dtype, torch.float32) for value in state.values())
        outputs = [sent, *([] if read is None else [read]), *(state[k] for k in sorted(state))]
        grad = torch.autograd.grad(torch.stack([y.double().sum() for y in outputs]).sum(), leaf)
        results.append([*outputs, *grad])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert torch.equal(one, two) or (dtype != torch.float64 and torch.allclose(one, two, atol=0.05, rtol=0.05))
        assert all(torch.equal(one, two) for one, two in zip(results[0][:-1], other[:-1]))


@every
def test_a_run_goes_on_from_its_state(name: str) -> None:
    net, x = Network(nn.Sequential(ALL[name].make().double())), currents()
    whole, end = net.run(x)
    first, state = net.run(x[:5])
    second, after = net.run(x[5:], state)
    assert torch.equal(torch.cat([first, second]), whole)
    assert after["0"].keys() == end["0"].keys()
    assert all(torch.equal(value, end["0"][key]) for key, value in after["0"].items())


@every
def test_copies_and_casts_keep_constants(name: str) -> None:
    case, x = ALL[name], currents()
    neuron = case.make()
    with torch.no_grad():
        expected, _ = neuron.double().scan(x, {}, True)
        learned = bool(list(neuron.parameters()))
        others = {"deepcopy": deepcopy(neuron), "pickle": pickle.loads(pickle.dumps(neuron))}
        loaded = case.make().double()
        for parameter in loaded.parameters():
            parameter.add_(0.25)
        file = io.BytesIO()
        torch.save(neuron.state_dict(), file)
        file.seek(0)
        loaded.load_state_dict(torch.load(file))
        others["state_dict"] = loaded
        if not learned:
            others["half and back"] = case.make().half().float().double()
            others["loaded from half"] = case.make().double()
            others["loaded from half"].load_state_dict(case.make().half().state_dict())
        for way, other in others.items():
            assert torch.equal(other.scan(x, {}, True)[0], expected), way
            assert repr(other) == repr(neuron), way
    constants = {n: b.dtype for n, b in case.make().half().named_buffers()}
    assert set(constants.values()) <= {torch.float64}


@every
def test_layouts_in_memory_do_not_matter(name: str) -> None:
    x = currents(4, 4)
    sparse = torch.cat([x, x], 1)[:, ::2]
    given = (x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (T, N)), sparse)
    for value in given:
        expected = ALL[name].make().scan(value.contiguous(), {}, True)[0]
        assert torch.equal(ALL[name].make().scan(value, {}, True)[0], expected)


@every
def test_constants_that_do_not_fit_the_channels_are_refused(name: str) -> None:
    neuron = ALL[name].make()
    several = [v for v in (*neuron.parameters(), *neuron.buffers()) if v.numel() == C]
    if not several:
        return
    with pytest.raises(ShapeError, match=rf"{type(neuron).__name__} has 3 per-channel .*\[2, 5\].* has 5 channels"):
        neuron.scan(torch.zeros(4, 2, 5), {}, True)


@every
def test_shapes_are_known_without_numbers(name: str) -> None:
    neuron = ALL[name].make()
    output, state = neuron.to("meta").scan(torch.empty(T, N, C, 2, device="meta"), {}, True)
    assert isinstance(output, Tensor) and output.is_meta and output.shape == (T, N, C, 2)
    assert all(value.is_meta and value.shape == (N, C, 2) for value in state.values())
    assert repr(neuron)


@every
def test_low_precision_runs_are_finite_and_fire(name: str) -> None:
    module = nn.Sequential(nn.Linear(4, C), ALL[name].make()).float()
    nn.init.constant_(module[0].weight, 0.5)
    x = torch.rand(T, N, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float32) + 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, state = Network(module).run(x)
        output.float().square().sum().backward()
    assert output.any() and output.isfinite().all()
    assert all(value.dtype == torch.float32 for value in state["1"].values())
    assert all(p.grad is not None and p.grad.any() and p.grad.isfinite().all() for p in module.parameters())


@needs_kernels
@pytest.mark.long
def test_without_kernels_everything_is_the_same(tmp_path: Path) -> None:
    program = """
import sys, torch
from tests.core.test_new_neurons import ALL, currents
from spikewright.kernels import native
found = {}
for name, case in ALL.items():
    neuron, x = case.make().double(), currents(2).requires_grad_()
    output, state = neuron.scan(x, {}, True)
    wanted = [x, *neuron.parameters()]
    found[name] = [output.detach(), *torch.autograd.grad((output * output).sum() + output.sum(), wanted)]
torch.save(found, sys.argv[1])
"""
    found = []
    for switch in ("0", "1"):
        path = tmp_path / switch
        environment = {**os.environ, "SPIKEWRIGHT_NATIVE": switch, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", program, str(path)], env=environment, check=True)
        found.append(torch.load(path))
    for name, plain in found[0].items():
        assert torch.equal(plain[0], found[1][name][0]) or name in INTEGRATORS, name
        for one, other in zip(plain, found[1][name], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", ["current, learned", "adaptive, moving, attached", "several", "integrator, current"])
@pytest.mark.long
def test_compiled_scans_are_the_same(name: str) -> None:
    neuron, x = ALL[name].make().double(), currents()
    neuron.potential = "before reset" if name in CASES else None

    def scan(x: Tensor) -> Any:
        return neuron.scan(x, {}, True)

    outcomes = []
    for function in (scan, torch.compile(scan, fullgraph=True, backend="aot_eager", dynamic=False)):
        leaf = x.clone().requires_grad_()
        output, state = function(leaf)
        outputs = [*(output if isinstance(output, tuple) else (output,)), *(state[k] for k in sorted(state))]
        loss = torch.stack([y.square().sum() for y in outputs]).sum()
        outcomes.append([*outputs, *torch.autograd.grad(loss, [leaf, *neuron.parameters()])])
    for eager, compiled in zip(*outcomes, strict=True):
        assert torch.equal(eager, compiled)


def test_a_late_reset_is_a_reset_a_step_later() -> None:
    """The potential of other libraries that take the threshold off behind the leak."""
    x, membrane, spike, found = currents()[:, 0, 0].tolist(), 0.0, 0.0, []
    for current in x:
        membrane = 0.75 * membrane + current - spike * 0.5
        spike = float(membrane >= 0.5)
        found.append((spike, membrane))
    neuron = LIF(4.0, threshold=0.5, reset="late", potential="before reset").double()
    spikes, potential = neuron.scan(torch.tensor(x).view(-1, 1, 1).double(), {}, True)[0]
    assert spikes.flatten().tolist() == [s for s, _ in found] and sum(s for s, _ in found) > 2
    assert potential.flatten().tolist() == pytest.approx([u for _, u in found], rel=1e-12, abs=1e-12)


def test_rates_count_every_spike_of_a_step() -> None:
    x = currents() + 1
    for amplitude in (1.0, 0.5, -2.0):
        net = Network(nn.Sequential(IF(max_spikes=None, amplitude=amplitude)).double())
        run = net.start(x)
        output = run.advance(x)
        expected = (output / amplitude).mean().item()
        assert expected > 1 and run.rates()["0"] == pytest.approx(expected, rel=1e-6)


def test_an_integrator_has_a_gain_for_each_channel() -> None:
    neuron = LI(4.0, gain=[0.5, 1.0, 2.0], tau_syn=2.0, current_gain=[1.0, 3.0, 0.5])
    x = torch.ones(2, 1, 3)  # c = k, 1.5 k; v = g c, 0.75 g c + g c'
    found = Network(nn.Sequential(neuron)).run(x)[0][:, 0]
    product = torch.tensor([0.5, 3.0, 1.0])
    torch.testing.assert_close(found, torch.stack([product, 2.25 * product]))


def test_an_integrator_has_no_rate() -> None:
    net = Network(nn.Sequential(nn.Linear(3, 4), LIF(), nn.Linear(4, 2), LI()).double())
    run = net.start(currents())
    run.advance(currents())
    assert run.rates().keys() == {"1"}


class _Both(nn.Module):
    """Neurons that send their spikes back, and whose potential is read."""

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        self.back, self.neuron = Feedback(nn.Linear(C, C, bias=False), "neuron"), neuron

    def forward(self, x: Tensor) -> Tensor:
        spikes, potential = self.neuron(self.back(x))
        return torch.cat([spikes, potential], 1)


def test_feedback_sends_the_spikes_of_a_pair() -> None:
    module, x = _Both(CUBALIF(4.0, 3.0, potential="before reset")).double(), currents()
    output, state = Network(module).run(x)
    sent, rows, neuron = torch.zeros(N, C, dtype=torch.float64), [], module.neuron
    carried: SiteState = {}
    for step, current in enumerate(x):
        current = current + module.back.transform(sent) if step else current
        (spikes, potential), carried = neuron.scan(current[None], carried, True)
        sent = spikes[0]
        rows.append(torch.cat([sent, potential[0]], 1))
    assert torch.equal(output, torch.stack(rows)) and torch.equal(state["back"]["last"], sent)


ODD: dict[str, tuple[Any, dict[str, Any]]] = {
    "threshold": (LIF, {"threshold": [0.3, 0.7, 1.1]}),
    "gain and rest": (IF, {"gain": [0.3, 0.7, 1.1], "rest": [0.1, 0.3, 0.7]}),
    "current": (CUBALIF, {"tau": [3.0, 7.0, 11.0], "tau_syn": [3.0, 7.0, 11.0], "current_gain": [0.3, 0.7, 1.1]}),
    "adaptive": (ALIF, {"tau": [3.0, 7.0, 11.0], "tau_adaptation": [13.0, 7.0, 11.0], "beta": [0.3, 0.7, 1.1]}),
    "integrator": (LI, {"tau": [3.0, 7.0, 11.0], "gain": [0.3, 0.7, 1.1]}),
}


@pytest.mark.parametrize("name", ODD)
def test_constants_that_half_precision_cannot_hold_stay_exact(name: str) -> None:
    kind, given = ODD[name]
    x = currents()
    expected, _ = kind(**given).double().scan(x, {}, True)
    loaded = kind(**given).double()
    loaded.load_state_dict({key: value.half() for key, value in kind(**given).state_dict().items()})
    for other in (kind(**given).half().double(), kind(**given).bfloat16().float().double(), loaded):
        assert torch.equal(other.scan(x, {}, True)[0], expected)
    assert loaded.state_dict().keys() >= {"threshold"} or "threshold" not in given
    assert all(value.dtype == torch.float64 for value in loaded.state_dict().values())


@torch.no_grad()
def test_trained_constants_start_where_they_are_told_to() -> None:
    neuron = CUBALIF([3.0, 7.0], 5.0, learn_tau=True, learn_tau_syn=True, learn_gain=True, gain=0.3).double()
    torch.testing.assert_close(torch.as_tensor(neuron.tau), torch.tensor([3.0, 7.0]).double())
    assert float(neuron.tau_syn) == pytest.approx(5.0) and float(neuron.gain) == pytest.approx(0.3)
    adaptive = ALIF(4.0, beta=0.3, threshold=0.7, learn_tau=True, learn_beta=True, learn_threshold=True)
    assert float(adaptive.tau) == pytest.approx(4.0) and float(torch.as_tensor(adaptive.beta)) == pytest.approx(0.3)
    assert float(adaptive.threshold) == pytest.approx(0.7)
    assert float(LI(9.0, learn_tau=True).tau) == pytest.approx(9.0)
