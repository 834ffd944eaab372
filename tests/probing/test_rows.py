"""What goes by the number or the order of rows is refused, and so is what sees only some of them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as f

from spikewright.errors import NetworkError
from spikewright.layers import StepDropout
from spikewright.network import Network
from spikewright.neurons import LIF
from spikewright.rules import BPTT, OTTT, Rule
from tests.core.support import CE, Lambda
from tests.probing.mixing import of
from tests.probing.support import F, around, data, refused, wired

TABLE = torch.randn(64, F, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
COUNTS: dict[str, Callable[[Tensor], Tensor]] = {
    "positions": lambda x: x + TABLE[: x.size(0)],
    "positions from behind": lambda x: x + TABLE[: x.size(0)].flip(0),
    "number of rows": lambda x: x * len(x),
    "number of entries": lambda x: x / x.numel(),
    "arange": lambda x: x + torch.arange(len(x)).to(x)[:, None],
    "ramp": lambda x: x * torch.linspace(0, 1, len(x)).to(x)[:, None],
    "all but the first": lambda x: f.pad(x[1:], (0, 0, 1, 0)),
    "all but the last": lambda x: f.pad(x[:-1], (0, 0, 0, 1)),
    "even rows": lambda x: torch.where((torch.arange(len(x)) % 2 == 0)[:, None], x, 0 * x),
    "pieces of 16": lambda x: torch.cat([part - part.mean(0) for part in x.split(16)]) if len(x) > 16 else x,
    "pieces of 32": lambda x: torch.cat([part - part[:1] for part in x.split(32)[1:]] + [x[:32]]) if len(x) > 32 else x,
    "hardly": lambda x: x + 1e-7 * x.mean(0),
    "alone": lambda x: x if len(x) == 1 else 2 * x / len(x),
}


@pytest.mark.parametrize("name", COUNTS)
def test_rows_that_are_counted(name: str) -> None:
    refused(around(of(COUNTS[name])), r"'1' \(Lambda\) .*goes by their number or order")


def pieces(inner: nn.Module, cut: Callable[[Tensor], list[Tensor]]) -> nn.Module:
    return Lambda(lambda m, x: torch.cat([m.inner(part) for part in cut(x)]), inner=inner)


def split(x: Tensor) -> list[Tensor]:
    return list(x.split(40))


SPLIT: dict[str, Callable[[], nn.Module]] = {
    "neurons": LIF,
    "batch norm": lambda: nn.BatchNorm1d(F),
    "batch norm without statistics": lambda: nn.BatchNorm1d(F, track_running_stats=False),
    "dropout": lambda: nn.Dropout(0.5),
    "step dropout": lambda: StepDropout(0.5),
    "layer and neurons": lambda: nn.Sequential(nn.Linear(F, F), LIF()),
}


@pytest.mark.parametrize("name", SPLIT)
def test_pieces(name: str) -> None:
    module = around(pieces(SPLIT[name](), lambda x: list(x.split(8)))).train()
    refused(module, r"'1\.inner(\.\d)?' .* was called (with 8 rows of a run that has 36|1 times for 4 rows, and)|order")


@pytest.mark.parametrize("name", SPLIT)
def test_pieces_that_a_probe_does_not_see(name: str) -> None:
    """A probe's rows are all in the first piece, those of a run are not."""
    net, x = Network(around(pieces(SPLIT[name](), split)).train()), data(samples=15)
    net.wiring(x)
    with pytest.raises(NetworkError, match=r"'1\.inner(\.\d)?' .* was called with 40 rows of a run that has 60 \(4 st"):
        net(x)


@pytest.mark.parametrize("rule", [BPTT(), OTTT(chunk=4)], ids=repr)
def test_whatever_learns(rule: Rule) -> None:
    net = Network(around(pieces(LIF(), split)))
    with pytest.raises(NetworkError, match=r"'1\.inner' .*40 rows"):
        list(rule.updates(net, data(samples=15), torch.arange(15) % 4, CE))


@pytest.mark.parametrize("bound", [-100.0, 0.3])
def test_rows_that_are_picked(bound: float) -> None:
    """By a mask that may pick all rows of a probe."""

    def route(m: Lambda, x: Tensor) -> Tensor:
        chosen = x.mean(1) > bound if bound > 0 else (torch.arange(len(x)) < 7)
        y = x.clone()
        y[chosen] = m.lif(x[chosen])
        return y

    module = around(Lambda(route, lif=LIF()))
    with pytest.raises(NetworkError, match=r"'1\.lif' \(LIF\) was called with \d+ rows|'1' .*by their number or order"):
        Network(module)(data())


def test_a_piece_with_nothing_in_it() -> None:
    module = around(Lambda(lambda m, x: torch.cat([x, m.lif(x[len(x) :])]), lif=LIF()))
    with pytest.raises(NetworkError, match="was called with 0 rows"):
        Network(module)(data())


def test_one_step_may_be_one_piece() -> None:
    net = Network(around(pieces(LIF(), split)))
    assert net(data()[:1]).shape == (1, 5, 4)


def test_pieces_of_what_keeps_nothing() -> None:
    module, whole = (around(layer) for layer in (pieces(nn.Tanh(), lambda x: list(x.chunk(2))), nn.Tanh()))
    torch.testing.assert_close(Network(module)(data()), Network(whole)(data()), rtol=1e-12, atol=1e-12)


def vectorised(layer: nn.Module) -> nn.Module:
    return Lambda(lambda m, x: torch.func.vmap(lambda row: m.inner(row))(x), inner=layer)


@pytest.mark.parametrize("layer", [nn.Linear(F, F), LIF(), nn.Dropout(0.5)], ids=lambda m: type(m).__name__)
def test_rows_one_by_one_in_a_transform(layer: nn.Module) -> None:
    refused(around(vectorised(layer)), r"'1\.inner' \(\w+\) was called inside of a transform of torch\.func")


def test_what_keeps_nothing_may_be_transformed() -> None:
    module, whole = around(vectorised(nn.Tanh())), around(nn.Tanh())
    torch.testing.assert_close(Network(module)(data()), Network(whole)(data()), rtol=1e-12, atol=1e-12)
    assert Network(module).wiring(data()).synapses["0"].bends


def test_patches_in_the_first_axis() -> None:
    """Several rows of a sample, as windows of images have, with neurons over them."""

    def patches(m: Lambda, x: Tensor) -> Tensor:
        return m.out(m.lif(m.fc(x.reshape(-1, F // 3))).reshape(len(x), -1))

    def beside(m: Lambda, x: Tensor) -> Tensor:
        return m.out(m.lif(m.fc(x.reshape(len(x), 3, F // 3))).flatten(1))

    torch.manual_seed(0)
    layers = {"fc": nn.Linear(F // 3, 5), "lif": LIF(), "out": nn.Linear(15, 4)}
    one, other = (Lambda(forward, **layers).double() for forward in (patches, beside))
    wired(one)
    torch.testing.assert_close(Network(one)(3 * data()), Network(other)(3 * data()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shift", [2, 4])
def test_rows_that_change_places(shift: int) -> None:
    inner = of(lambda x: x.view(-1, shift, F).flip(1).reshape(-1, F))
    refused(around(inner), r"'1' \(Lambda\) .*goes by their number or order")


def test_a_number_of_rows_that_does_not_fit() -> None:
    inner = of(lambda x: x.reshape(-1, 4, F).flip(0).reshape(-1, F) + torch.zeros(12, 1).to(x)[: len(x)])
    refused(around(inner), r"'1' \(Lambda\) goes by the number of rows: .* it said: The size of tensor")
