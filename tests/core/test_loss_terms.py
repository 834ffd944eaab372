"""Terms of a loss are those of the loss: they add up to it, and a sample that is ignored adds nothing."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.continual.heads import TaskLoss
from spikewright.errors import IncompatibleRule, InputError, ShapeError
from spikewright.losses import CrossEntropyMSE, OnRate, PerStep
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import BPTT, SLTT
from spikewright.spatial import ZO

STEPS, BATCH, CLASSES = 4, 5, 3
LABELS = torch.tensor([0, 2, -100, 1, 2])
WEIGHTS = torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64)
SOFT = torch.rand(BATCH, CLASSES, generator=torch.Generator().manual_seed(1)).softmax(-1)


def outputs(*further: int) -> Tensor:
    return torch.randn(STEPS, BATCH, CLASSES, *further, generator=torch.Generator().manual_seed(0)).double()


def squared(output: Tensor, y: Tensor) -> Tensor:
    return (output - y).square().mean()


def looks(output: Tensor, y: Tensor) -> Tensor:
    return sum((o - t).abs().sum() for o, t in zip(output, y) if float(o.sum()) > -1e9) / len(y)  # type: ignore[return-value]


CRITERIA: dict[str, tuple[Any, Tensor]] = {
    "labels": (nn.CrossEntropyLoss(), LABELS.clamp_min(0)),
    "weights": (nn.CrossEntropyLoss(WEIGHTS), LABELS.clamp_min(0)),
    "ignored": (nn.CrossEntropyLoss(), LABELS),
    "ignored and weights": (nn.CrossEntropyLoss(WEIGHTS), LABELS),
    "ignored, weights, smoothing": (nn.CrossEntropyLoss(WEIGHTS, label_smoothing=0.2), LABELS),
    "another ignored": (nn.CrossEntropyLoss(ignore_index=2), LABELS.clamp_min(0)),
    "smoothing": (nn.CrossEntropyLoss(label_smoothing=0.1), LABELS),
    "sum": (nn.CrossEntropyLoss(WEIGHTS, reduction="sum"), LABELS),
    "soft": (nn.CrossEntropyLoss(), SOFT),
    "soft and weights": (nn.CrossEntropyLoss(WEIGHTS), SOFT),
    "nll": (nn.NLLLoss(WEIGHTS), LABELS),
    "mix": (CrossEntropyMSE(0.3), LABELS.clamp_min(0)),
    "mse": (nn.MSELoss(), SOFT),
    "mse, sum": (nn.MSELoss(reduction="sum"), SOFT),
    "huber": (nn.HuberLoss(), SOFT),
    "bce": (nn.BCEWithLogitsLoss(pos_weight=WEIGHTS), SOFT),
    "kl": (nn.KLDivLoss(reduction="batchmean"), SOFT),
    "margins": (nn.MultiMarginLoss(), LABELS.clamp_min(0)),
    "function": (F.cross_entropy, LABELS.clamp_min(0)),
    "of the user": (squared, SOFT),
    "of the user, sum": (lambda o, y: (o - y).abs().sum(), SOFT),
    "of the user, with a look": (looks, SOFT),
}


@pytest.mark.parametrize("name", CRITERIA)
def test_terms_add_up_to_the_loss(name: str) -> None:
    (criterion, y), output = CRITERIA[name], outputs()
    for loss, target in (PerStep(criterion), y), (PerStep(criterion, timed=True), y.expand(STEPS, *y.shape)):
        terms, value = loss.terms(output, target, 2 * STEPS, 0), loss(output, target, 2 * STEPS, 0)
        assert terms.shape == (STEPS, BATCH)
        torch.testing.assert_close(terms.sum(), value, rtol=1e-12, atol=0)
        ignored = getattr(criterion, "ignore_index", -100) == y if y.dim() == 1 else torch.zeros(BATCH, dtype=bool)
        assert not terms[:, ignored].any() and (terms[:, ~ignored].all() or name == "margins")


@pytest.mark.parametrize(
    "criterion, y", [(nn.CrossEntropyLoss(WEIGHTS), LABELS), (squared, SOFT), (nn.MSELoss(), SOFT)]
)
def test_the_gradient_of_the_terms_is_that_of_the_loss(criterion: Any, y: Tensor) -> None:
    output, loss = outputs().requires_grad_(), PerStep(criterion)
    found, expected = (torch.autograd.grad(v, output)[0] for v in (loss.terms(output, y, 4).sum(), loss(output, y, 4)))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


def test_terms_of_dense_labels_and_of_heads() -> None:
    output, y = outputs(2, 2), torch.randint(CLASSES, (BATCH, 2, 2))
    y[1], y[0, 0] = -100, -100
    loss = PerStep(nn.CrossEntropyLoss(WEIGHTS))
    terms = loss.terms(output, y, STEPS)
    torch.testing.assert_close(terms.sum(), loss(output, y, STEPS))
    assert not terms[:, 1].any() and terms[:, 0].all()
    heads = TaskLoss(PerStep(nn.CrossEntropyLoss(torch.tensor([1.0, 3.0]))), 2)
    output, y = torch.randn(STEPS, BATCH, 4), torch.tensor([0, 3, 2, 1, 3])
    torch.testing.assert_close(heads.terms(output, y, STEPS).sum(), heads(output, y, STEPS))


def test_targets_that_change_with_the_step() -> None:
    output, y = outputs(), torch.randint(CLASSES, (STEPS, BATCH))
    y[1, 2], y[3, :2] = -100, -100
    loss = PerStep(nn.CrossEntropyLoss(WEIGHTS), timed=True)
    torch.testing.assert_close(loss.terms(output[1:3], y, STEPS, 1).sum(), loss(output[1:3], y, STEPS, 1))


def contrast(output: Tensor, y: Tensor) -> Tensor:
    return (output @ output.T).softmax(-1).square().mean()


COUPLED = {
    "contrast": contrast,
    "weights in a function": lambda o, y: F.cross_entropy(o, y, WEIGHTS),
    "a batch of one size": lambda o, y: F.cross_entropy(o, LABELS.clamp_min(0)),
    "norm over the batch": lambda o, y: (o - o.mean(0)).square().mean(),
}


@pytest.mark.parametrize("name", COUPLED)
def test_a_criterion_that_couples_samples_has_no_terms(name: str) -> None:
    with pytest.raises(
        IncompatibleRule, match=r"PerStep\(.*loss of each sample.* (neither the mean nor|not take one sample)"
    ):
        PerStep(COUPLED[name]).terms(outputs(), LABELS.clamp_min(0), STEPS)
    with pytest.raises(IncompatibleRule, match="reads the mean output"):
        OnRate(contrast).terms(outputs(), LABELS, STEPS)


def learned(criterion: Any, y: Tensor) -> Tensor:
    torch.manual_seed(0)
    net = Network(nn.Sequential(nn.Linear(6, 8), LIF(), nn.Linear(8, CLASSES)).double())
    x = 2 * torch.rand(STEPS, BATCH, 6, generator=torch.Generator().manual_seed(2)).double()
    list(SLTT(spatial=ZO()).updates(net, x, y, PerStep(criterion)))
    return net.module[0].weight.grad  # type: ignore[index, return-value]


def test_zeroth_order_learns_from_the_terms() -> None:
    plain, ignored = (learned(nn.CrossEntropyLoss(), y) for y in (LABELS.clamp_min(0), LABELS))
    assert plain.isfinite().all() and ignored.isfinite().all() and not torch.equal(plain, ignored)
    heavy, light = (
        learned(nn.CrossEntropyLoss(torch.tensor(w, dtype=torch.float64)), LABELS) for w in ([1, 1, 1], [3, 3, 3])
    )
    torch.testing.assert_close(heavy, light, rtol=1e-10, atol=1e-14)
    with pytest.raises(IncompatibleRule, match="neither the mean nor the sum"):
        learned(contrast, LABELS)


CE = nn.CrossEntropyLoss
WRONG: dict[str, tuple[Any, Tensor, type[Exception], str]] = {
    "all ignored": (CE(), torch.full((5,), -100), InputError, "targets that are all -100, which"),
    "all 1, ignored": (nn.NLLLoss(ignore_index=1), torch.ones(5).long(), InputError, "targets that are all 1"),
    "a negative share": (CE(), -SOFT, InputError, r"a target that is negative: y\[0, 0\] is -0.*probabilities"),
    "NaN": (CE(), SOFT / 0 * 0, InputError, r"a target that is not finite: y\[0, 0\] is nan"),
    "NaN, squared": (nn.MSELoss(), SOFT / 0 * 0, InputError, r"a target that is not finite"),
    "too few classes": (CE(), SOFT[:, :2], ShapeError, "probabilities of 2 classes.* the network has 3 outputs"),
    "above 1": (nn.BCEWithLogitsLoss(), 3 * SOFT + 1, InputError, "a target that is above 1"),
    "out of range": (CE(), LABELS + 1, InputError, r"class indices from 0 to 2, .* y\[1\] is 3"),
}


@pytest.mark.parametrize("kind", [PerStep, OnRate])
@pytest.mark.parametrize("name", WRONG)
def test_targets_without_sense(kind: Any, name: str) -> None:
    criterion, y, error, message = WRONG[name]
    net = Network(nn.Sequential(nn.Linear(6, 8), LIF(), nn.Linear(8, CLASSES)).double())
    with pytest.raises(error, match=message):
        BPTT().updates(net, torch.rand(STEPS, BATCH, 6).double(), y, kind(criterion))


def test_a_step_at_which_all_is_ignored() -> None:
    y = LABELS.expand(STEPS, -1).clone()
    y[2] = -100
    with pytest.raises(InputError, match=r"all -100 of step 2, .*lengths="):
        PerStep(CE(), timed=True).check(y, STEPS, BATCH, CLASSES)


def test_targets_that_a_criterion_may_have() -> None:
    """Of the user's criteria any, and logarithms of probabilities where those are asked for."""
    PerStep(squared).check(torch.full((BATCH, CLASSES), float("nan")), STEPS, BATCH, CLASSES)
    PerStep(nn.KLDivLoss(log_target=True)).check(SOFT.log(), STEPS, BATCH, CLASSES)
    PerStep(nn.KLDivLoss(log_target=True)).check(torch.full((BATCH, CLASSES), -torch.inf), STEPS, BATCH, CLASSES)
