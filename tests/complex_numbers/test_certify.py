"""The certificate sees both parts of complex gradients."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from spikewright._util.real_numbers import in_double
from spikewright.metrics.precision import Precisions
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.reports.gradient_check import certify
from spikewright.rules import BPTT
from tests.complex_numbers.support import CE, CLASSES, INPUTS, WIDTH, C, data, deep, drawn, read, turned


class Changed(BPTT):
    """Backpropagation whose complex gradients are changed afterwards."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def learn(self, batch: Any) -> Any:
        for update in super().learn(batch):
            for p in batch.net.parameters():
                if p.grad is not None and p.is_complex():
                    p.grad = self.change(p.grad)
            yield update


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "conjugated": lambda g: g.conj(),
    "real": lambda g: g.real.to(g.dtype),
    "turned": lambda g: 1j * g,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_wrong_imaginary_part_breaks_a_promise(change: str) -> None:
    found = certify(deep("imag"), Changed(CHANGES[change]), *data(), CE)
    broken = {row.site for row in found.rows if not row.match}
    assert broken == {f"{layer}.{kind}" for layer in (3, 4, 8, 9) for kind in ("weight", "bias")}
    assert not any(row.vanishing for row in found.rows)


def test_what_is_said_of_complex_gradients() -> None:
    x, y = data()
    rows = {row.site: row for row in certify(deep("imag"), Changed(lambda g: 2j * g), x, y, CE).rows}
    row = rows["4.weight"]
    assert row.norm_ratio == pytest.approx(2)
    assert row.cosine == pytest.approx(0, abs=1e-12)  # at a right angle, as real and imaginary parts are
    assert row.relative_error == pytest.approx(5**0.5)


def test_precision_is_that_of_the_real_numbers() -> None:
    parts = [nn.Linear(INPUTS, WIDTH), LIF(), turned(torch.complex64), nn.Linear(WIDTH, 6, dtype=torch.complex64)]
    module = drawn(nn.Sequential(*parts, read("abs"), LIF(), nn.Linear(6, CLASSES)))
    for part in (module[0], module[6]):  # type: ignore[index]
        part.float()
    x, y = data(torch.float32)
    found = certify(Network(module), BPTT(chunk=2), x, y, CE)
    assert found.ok, found.table()
    assert not certify(Network(module), Changed(lambda g: g * (1 + 1e-3j)), x, y, CE).ok
    with Precisions() as seen:
        module[3](torch.ones(1, WIDTH, dtype=torch.complex64))  # type: ignore[index]
    assert seen.types == {torch.float32} and seen.lowest(C) == torch.float32


def test_complex_numbers_stay_complex_in_double_precision() -> None:
    module = nn.Sequential(nn.Linear(2, 2, dtype=torch.complex64), nn.Linear(2, 2).float(), nn.BatchNorm1d(2))
    weight = module[0].weight.detach().clone()
    in_double(module)
    assert [p.dtype for p in module.parameters()] == [C, C, *[torch.float64] * 4]
    assert torch.equal(module[0].weight.detach().to(torch.complex64), weight)
    assert module[2].num_batches_tracked is not None and not module[2].num_batches_tracked.is_floating_point()
