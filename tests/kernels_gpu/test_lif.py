"""The neuron kernels against the naive scan: every option, precision and optional array, widths off the block."""

from itertools import product

import pytest
import torch
from torch import Tensor

from spikewright.kernels.operators import surrogate_number
from spikewright.surrogate import BUILT_IN, ATan, Sigmoid, Surrogate, Triangle
from tests.kernels_gpu.support import DEVICE, assert_close, draw, every_dtype, lif, lif_backward, naive, wide

THRESHOLD = 0.9  # like the leak, without an exact binary form
SURROGATES = [kind(0.8, 1.3) for kind in BUILT_IN]  # type: ignore[call-arg]
OPTIONS = list(product((True, False), (True, False), (True, False)))
every_option = pytest.mark.parametrize(
    ("subtract", "detach_reset", "through_time"),
    OPTIONS,
    ids=[f"{'subtract' if s else 'zero'}{'' if d else '-attached'}{'' if t else '-cut'}" for s, d, t in OPTIONS],
)


def assert_twins(
    current: Tensor,
    membrane: Tensor | None,
    leaks: Tensor | None,
    surrogate: Surrogate,
    subtract: bool,
    detach_reset: bool,
    through_time: bool,
    *,
    reset_amount: float = THRESHOLD,
    spikes_give: bool = True,
    membrane_gives: bool = True,
    slopes_given: bool = False,
    case: object = "",
) -> None:
    leak, threshold = 0.7, THRESHOLD
    neuron = (leak, threshold, reset_amount, subtract)
    states = wide(current.dtype)
    spikes, potential, after = lif(current, membrane, leaks, *neuron, True)
    assert (spikes.dtype, potential.dtype, after.dtype) == (current.dtype, states, states), case

    grad_spikes = draw(*current.shape, dtype=current.dtype, low=-1, high=1, seed=4) if spikes_give else None
    grad_after = draw(*current.shape[1:], dtype=states, low=-1, high=1, seed=5) if membrane_gives else None
    slopes, number = None, surrogate_number(surrogate)
    if slopes_given:
        slopes, number = surrogate.slope(potential - threshold), (0, 0.0, 1.0)
    options = (*neuron, detach_reset, through_time)
    grads = lif_backward(potential, grad_spikes, grad_after, slopes, leaks, *options, *number)
    assert grads[0].dtype == (current.dtype if spikes_give else states), case

    expected = naive(
        current,
        membrane,
        leaks,
        leak,
        grad_spikes=grad_spikes,
        grad_after=grad_after,
        surrogate=surrogate,
        threshold=threshold,
        reset_amount=reset_amount,
        subtract=subtract,
        detach_reset=detach_reset,
        through_time=through_time,
    )
    assert 0 < expected[0].mean() < 1, case
    assert torch.equal(spikes.to(states), expected[0]), case
    assert torch.equal(after, expected[1]), case
    assert_close(grads[0], expected[2], case)
    assert_close(grads[1], expected[3], case)


@every_dtype
@every_option
def test_every_option(subtract: bool, detach_reset: bool, through_time: bool, dtype: torch.dtype) -> None:
    states = wide(dtype)
    x = draw(4, 2, 67, dtype=dtype)  # two programs, of which one is not full
    membrane, leaks = draw(2, 67, dtype=states, seed=1), draw(2, 67, dtype=states, low=0.2, high=1, seed=2)
    options = (subtract, detach_reset, through_time)
    for surrogate, before, each in zip([*SURROGATES, Sigmoid(4.0)], (membrane, None) * 4, (None, None, leaks) * 3):
        case = f"{surrogate}, {'rest' if before is None else 'membrane'}, {'one leak' if each is None else 'leaks'}"
        assert_twins(x, before, each, surrogate, *options, membrane_gives=through_time, case=case)
    assert_twins(x, membrane, leaks, ATan(2.0), *options, membrane_gives=False, case="spikes only")
    given = {"membrane_gives": False, "slopes_given": True}
    assert_twins(x, membrane, None, Sigmoid(4.0), *options, **given, case="slopes given")
    if through_time:
        assert_twins(x, membrane, leaks, Triangle(), *options, spikes_give=False, case="membrane only")


@every_dtype
@every_option
@pytest.mark.parametrize("reset_amount", [0.0, 0.3, 1.7])
def test_a_reset_by_another_quantum(
    reset_amount: float, subtract: bool, detach_reset: bool, through_time: bool, dtype: torch.dtype
) -> None:
    states, options = wide(dtype), (subtract, detach_reset, through_time)
    x, membrane = draw(4, 2, 67, dtype=dtype), draw(2, 67, dtype=states, seed=1)
    leaks = draw(2, 67, dtype=states, low=0.2, high=1, seed=2)
    for before, each in ((membrane, leaks), (None, None)):
        assert_twins(x, before, each, Sigmoid(4.0), *options, reset_amount=reset_amount, membrane_gives=through_time)
    assert_twins(
        x, membrane, None, ATan(2.0), *options, reset_amount=reset_amount, membrane_gives=False, slopes_given=True
    )
    own, other = (lif(x, membrane, None, 0.7, THRESHOLD, q, subtract, True) for q in (THRESHOLD, reset_amount))
    assert torch.equal(own[2], other[2]) != subtract


@pytest.mark.parametrize("shape", [(1, 1), (1, 127), (1, 128), (1, 129), (2, 257), (33, 3), (5,), (3, 2, 3, 5, 7)])
def test_odd_sizes(shape: tuple[int, ...]) -> None:
    x = draw(*shape, low=0.5, high=1.3)
    x.view(-1)[-1] = 0
    x.view(-1)[0] = 2
    if x.numel() == 1:
        x = torch.cat([x, x * 0])
    for before in (None, draw(*shape[1:], seed=1)):
        assert_twins(x, before, None, Sigmoid(4.0), False, False, True, case=before is None)


@every_dtype
@pytest.mark.parametrize("subtract", [True, False], ids=["subtract", "zero"])
def test_a_neuron_at_its_threshold_fires_and_passes_the_reset_back(subtract: bool, dtype: torch.dtype) -> None:
    x = draw(2, 3, dtype=dtype) * 0 + torch.tensor([0.5, 1.0, 1.5], dtype=dtype, device=DEVICE)
    spikes, potential, after = lif(x, None, None, 0.0, 1.0, 1.0, subtract, True)
    assert spikes.tolist() == [[0, 1, 1]] * 2
    assert after.tolist() == [0.5, 0, 0.5 if subtract else 0]
    arriving = torch.ones_like(after)
    detached = (None, None, 1.0, 1.0, 1.0, subtract, True, True, 1, 4.0, 1.0)
    _, grad = lif_backward(potential[-1:].clone(), None, arriving, *detached)
    assert grad.tolist() == ([1, 1, 1] if subtract else [1, 0, 0])


def test_a_cut_path_still_takes_what_arrives_at_the_last_membrane() -> None:
    x, arriving = draw(3, 5), [draw(3, 5, low=-1, seed=1), draw(5, low=-1, seed=2)]
    _, potential, _ = lif(x, None, None, 0.7, 1.0, 1.0, True, True)
    cut = (None, None, 0.7, 1.0, 1.0, True, False, False, 1, 4.0, 1.0)
    both, _ = lif_backward(potential, *arriving, *cut)
    spikes_only, _ = lif_backward(potential, arriving[0], None, *cut)
    last, _ = lif_backward(potential[-1:].clone(), arriving[0][-1:].clone(), arriving[1], *cut)
    assert torch.equal(both[:-1], spikes_only[:-1])
    assert torch.equal(both[-1], last[0]) and not torch.equal(both[-1], spikes_only[-1])


def test_an_unkept_potential_changes_nothing_else() -> None:
    x = draw(4, 131, dtype=torch.bfloat16)
    kept, unkept = (lif(x, None, None, 0.7, 1.0, 1.0, True, keep) for keep in (True, False))
    assert torch.equal(kept[0], unkept[0]) and torch.equal(kept[2], unkept[2])


def test_neither_steps_nor_neurons_change_nothing() -> None:
    x = draw(3, 0)
    assert [y.shape for y in lif(x, None, None, 0.7, 1.0, 1.0, True, True)] == [(3, 0), (3, 0), (0,)]


def test_a_repeated_step_is_read_again_and_again() -> None:
    for x in (draw(1, 2, 67), draw(1, 2, 67, dtype=torch.bfloat16)):
        both = x.expand(5, 2, 67), x.repeat(5, 1, 1)
        copied = [lif(steps, None, None, 0.7, 1.0, 1.0, True, True) for steps in both]
        assert copied[0][0].any() and all(torch.equal(*pair) for pair in zip(*copied))
