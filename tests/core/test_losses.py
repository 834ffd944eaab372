"""Losses: what they are, their gradients, and what they refuse."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.errors import ConfigError, InputError, ShapeError
from spikewright.losses import CrossEntropyMSE, Loss, OnRate, PerStep
from spikewright.network import Network
from spikewright.neurons import IF, LIF
from spikewright.rules import BPTT, SLTT
from spikewright.train._evaluate import evaluate
from tests.core.support import two_layers
from tests.nets import sample
from tests.rules.support import learn

STEPS, BATCH, CLASSES = 5, 3, 4


@pytest.fixture
def output() -> Tensor:
    return torch.randn(STEPS, BATCH, CLASSES).requires_grad_()


@pytest.fixture
def y() -> Tensor:
    return torch.tensor([2, 0, 3])


def test_the_two_losses_are_different_problems(output: Tensor, y: Tensor) -> None:
    per_step = torch.stack([F.cross_entropy(step, y) for step in output]).mean()
    on_rate = F.cross_entropy(output.mean(0), y)
    torch.testing.assert_close(PerStep(F.cross_entropy)(output, y, STEPS), per_step)
    torch.testing.assert_close(OnRate(F.cross_entropy)(output, y, STEPS), on_rate)
    assert on_rate < per_step  # convexity


@pytest.mark.parametrize("pieces", [1, 2, 5])
@pytest.mark.parametrize("timed", [False, True])
def test_pieces_add_up(output: Tensor, timed: bool, pieces: int) -> None:
    loss, y = PerStep(F.cross_entropy, timed=timed), torch.randint(CLASSES, (STEPS, BATCH) if timed else (BATCH,))
    starts = range(0, STEPS, pieces)
    parts = [loss(piece, y, STEPS, start) for piece, start in zip(output.split(pieces), starts)]
    torch.testing.assert_close(torch.stack(parts).sum(), loss(output, y, STEPS))


def test_a_timed_target_has_an_entry_per_step(output: Tensor) -> None:
    y = torch.randint(CLASSES, (STEPS, BATCH))
    expected = F.cross_entropy(output.flatten(0, 1), y.flatten())
    torch.testing.assert_close(PerStep(F.cross_entropy, timed=True)(output, y, STEPS), expected)


def test_all_steps_in_one_call_are_the_mean_over_steps(output: Tensor) -> None:
    """Also where targets weigh unequally or are ignored, which is the same at every step."""
    labels, values = torch.tensor([2, -100, 3]), torch.rand(BATCH, CLASSES)
    criteria = {
        nn.CrossEntropyLoss(weight=torch.tensor([0.1, 1.0, 2.0, 3.0])): labels,
        nn.CrossEntropyLoss(label_smoothing=0.1): labels,
        nn.CrossEntropyLoss(reduction="sum"): labels,
        nn.CrossEntropyLoss(): values.softmax(-1),
        CrossEntropyMSE(0.3): torch.tensor([2, 0, 3]),
        nn.MSELoss(): values,
        nn.MSELoss(reduction="sum"): values,
        nn.SmoothL1Loss(): values,
        nn.KLDivLoss(reduction="batchmean"): values.softmax(-1),
        nn.BCEWithLogitsLoss(weight=torch.rand(BATCH, CLASSES)): values,
    }
    for criterion, y in criteria.items():
        expected = torch.stack([criterion(step, y) for step in output]).mean()
        torch.testing.assert_close(PerStep(criterion)(output, y, STEPS), expected, msg=str(criterion))


def test_the_number_of_steps_may_be_that_of_a_stream(output: Tensor, y: Tensor) -> None:
    torch.testing.assert_close(
        PerStep(F.cross_entropy, steps=10)(output, y, STEPS), PerStep(F.cross_entropy)(output, y, STEPS) / 2
    )


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("target", ["onehot", 1.0, 0.0])
def test_the_gradient_of_the_mix(output: Tensor, y: Tensor, weight: float, target: str | float) -> None:
    loss = PerStep(CrossEntropyMSE(weight, target))  # type: ignore[arg-type]
    (found,) = torch.autograd.grad(loss(output, y, STEPS), output)
    onehot, o = F.one_hot(y, CLASSES).double(), output.detach()
    aim = onehot if target == "onehot" else torch.full_like(onehot, float(target))
    entropy = (o.softmax(2) - onehot) / (BATCH * STEPS)
    squares = 2 * (o - aim) / (BATCH * CLASSES * STEPS)
    torch.testing.assert_close(found, (1 - weight) * entropy + weight * squares, rtol=1e-12, atol=1e-14)


def test_the_mix_is_checked() -> None:
    with pytest.raises(ConfigError, match=r"CrossEntropyMSE\(mse=1.5\).*lies in \[0, 1\]"):
        CrossEntropyMSE(1.5)
    with pytest.raises(ConfigError, match="give 'onehot' or a number"):
        CrossEntropyMSE(target="two-hot")  # type: ignore[arg-type]
    assert repr(CrossEntropyMSE(0.1, 1.0)) == "CrossEntropyMSE(mse=0.1, target=1.0)"


def test_losses_say_what_they_are() -> None:
    assert repr(PerStep(nn.CrossEntropyLoss())) == "PerStep(CrossEntropyLoss)"
    assert repr(OnRate(F.mse_loss)) == "OnRate(mse_loss)"
    assert PerStep.per_step and not OnRate.per_step


LABELLED = [nn.CrossEntropyLoss(), nn.NLLLoss(), CrossEntropyMSE(0.1)]


@pytest.mark.parametrize("criterion", LABELLED, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("kind", [PerStep, OnRate])
def test_labels_must_be_classes(kind: type[Loss], criterion: nn.Module) -> None:
    with pytest.raises(InputError, match=r"needs class indices from 0 to 3, .* but y\[2\] is 4"):
        kind(criterion).check(torch.tensor([0, 3, 4]), STEPS, 3, CLASSES)
    assert accepts(kind(criterion), torch.tensor([0, 3, 1]))


def accepts(loss: Loss, y: Tensor) -> bool:
    try:
        loss.check(y, STEPS, 3, CLASSES)
    except InputError:
        return False
    return True


def test_what_is_no_label_is_not_checked_as_one() -> None:
    entropy = PerStep(nn.CrossEntropyLoss())
    assert accepts(entropy, torch.tensor([0, -100, 1])) and not accepts(entropy, torch.tensor([0, -10, 1]))
    assert accepts(PerStep(nn.CrossEntropyLoss(ignore_index=9)), torch.tensor([0, 9, 1]))
    assert accepts(entropy, torch.full((3, 4), 0.25))
    assert accepts(PerStep(nn.MSELoss()), torch.full((3,), 77))


def test_a_leak_weighs_outputs_by_their_age(y: Tensor) -> None:
    output = torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1)
    assert OnRate(F.mse_loss, leak=0.5).mean(output).item() == pytest.approx((0.25 * 1 + 0.5 * 2 + 4) / 1.75, rel=1e-15)
    assert OnRate(F.mse_loss).mean(output).item() == PerStep(F.mse_loss).mean(output).item() == 7 / 3
    output = torch.randn(STEPS, BATCH, CLASSES).requires_grad_()
    loss, shares = OnRate(F.cross_entropy, leak=0.8), torch.tensor([0.8**age for age in (4, 3, 2, 1, 0)])
    mean = (shares[:, None, None] * output).sum(0) / shares.sum()
    torch.testing.assert_close(loss(output, y, STEPS), F.cross_entropy(mean, y), rtol=1e-13, atol=0)
    found, expected = (torch.autograd.grad(v, output)[0] for v in (loss(output, y, STEPS), F.cross_entropy(mean, y)))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)
    assert torch.equal(loss.mean(output[:1]), output[0])
    assert loss.mean(output.half()).dtype == torch.float16


@pytest.mark.parametrize("leak", [0.0, -0.5, 1.1, float("nan")])
def test_a_leak_is_a_share(leak: float) -> None:
    with pytest.raises(ConfigError, match=rf"OnRate\(leak={leak}\): it weighs a step .* in \(0, 1\]"):
        OnRate(F.cross_entropy, leak=leak)


@pytest.mark.parametrize("loss, correct", [(OnRate(F.cross_entropy), 0.0), (OnRate(F.cross_entropy, leak=0.5), 1.0)])
def test_decisions_are_taken_by_the_mean_of_the_loss(loss: Loss, correct: float) -> None:
    x, y = torch.zeros(5, 2, 2), torch.ones(2, dtype=torch.int64)
    x[:3, :, 0] = x[3:, :, 1] = 1.0  # three early spikes of the one, two late ones of the other

    class Data:
        def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
            yield x, y
            yield x[:, :1], y[:1]

    net = Network(nn.Sequential(IF())).train()
    score = evaluate(net, Data(), loss)  # type: ignore[arg-type]
    assert (score.accuracy, score.samples, net.training) == (correct, 3, True)
    assert score.loss == pytest.approx(float(loss(x, y, 5)), rel=1e-12)
    assert score.rates["0"] == pytest.approx(0.5, rel=1e-6)


def test_a_timed_target_must_have_the_time() -> None:
    loss = PerStep(nn.CrossEntropyLoss(), timed=True)
    with pytest.raises(ShapeError, match=r"timed=True was given targets of shape \[3, 5\].*\[time=5, batch=3"):
        loss.check(torch.zeros(3, 5, dtype=torch.int64), 5, 3, CLASSES)
    with pytest.raises(InputError, match=r"y\[4, 1\] is 7"):
        y = torch.zeros(5, 3, dtype=torch.int64)
        y[4, 1] = 7
        loss.check(y, 5, 3, CLASSES)


def test_regression_learns(y: Tensor) -> None:
    x, _ = sample("mlp", 0)
    target = torch.rand(6, 3, 4)
    (update,) = learn(SLTT(), two_layers(), x, target, PerStep(F.mse_loss, timed=True))
    torch.testing.assert_close(update.loss, F.mse_loss(update.output, target))


def test_dense_labels_have_their_classes_on_the_channel_axis() -> None:
    module = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), LIF(), nn.Conv2d(6, 9, 1)).double()
    x, y = sample("conv", 0)[0], torch.full((3, 8, 8), 8)
    (update,) = BPTT().updates(Network(module), x, y, PerStep(nn.CrossEntropyLoss()))
    assert update.loss.isfinite()
    with pytest.raises(InputError, match=r"from 0 to 8, .* 9 outputs, but y\[0, 0, 0\] is 9"):
        learn(BPTT(), module, x, y + 1, PerStep(nn.CrossEntropyLoss()))


@pytest.mark.parametrize("loss", [PerStep(nn.CrossEntropyLoss()), OnRate(nn.CrossEntropyLoss())], ids=repr)
def test_outputs_and_targets_are_tensors_with_values(loss: Loss, output: Tensor, y: Tensor) -> None:
    bad: list[tuple[object, object]] = [
        (output, y.tolist()), (output, y.numpy()), (output, None), (output, 1), (output, y.to("meta")),
        (output.tolist(), y), ({"x": output}, y), (None, y), (output.detach().to_sparse(), y),
    ]  # fmt: skip
    for given, target in bad:
        with pytest.raises(ShapeError, match=r"(output|y) (has to be|is) a tensor"):
            loss(given, target, STEPS)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="the class CrossEntropyLoss"):
        loss.by(nn.CrossEntropyLoss)
