"""A forward that raises at the first wiring: the error is what it is, and names shape, type or device only if that is
the cause."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as f

from spikewright.errors import NetworkError, ShapeError
from spikewright.layers import Feedback
from spikewright.network import Network
from spikewright.neurons import LIF
from tests.core.support import Lambda
from tests.probing.support import F, N, T, around, data, wired

ADVICE = r"Layout is \[time, batch, \*feature\]: repeat a static input with x.expand\(steps, \*x.shape\)"


def failing(forward: Callable[[Tensor], object], dtype: torch.dtype = torch.float64) -> nn.Module:
    """A network with a step of its own in front."""
    torch.manual_seed(0)
    front = Lambda(lambda m, x: forward(x))
    return nn.Sequential(front, nn.Linear(F, F), LIF(), nn.Linear(F, 4)).to(dtype)


LINEAR = [lambda: failing(lambda x: x), lambda: around(nn.Tanh())]
FUNCTION = lambda: failing(lambda x: f.linear(x, torch.eye(F).double()))  # noqa: E731
SPATIAL = lambda: nn.Sequential(nn.Conv1d(F, F, 1), LIF(), nn.Flatten(), nn.Linear(F, 4)).double()  # noqa: E731


def fed_back() -> nn.Module:
    lif = LIF()
    return nn.Sequential(nn.Linear(F, F), Feedback(nn.Linear(F, F), lif), lif).double()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.long, torch.int32, torch.bool])
@pytest.mark.parametrize("build", [*LINEAR, FUNCTION, SPATIAL, fed_back])
def test_another_type(build: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    x = data("integers").to(dtype)
    x = x[..., None] if build is SPATIAL else x
    back = rf", or convert the network with net\.to\({dtype}\)" if dtype.is_floating_point else r"\. \("
    says = rf"x of dtype {dtype}, .*layers compute in torch\.float64: give it x\.to\(torch\.float64\){back}"
    with pytest.raises(ShapeError, match=says) as found:
        wired(build(), x)
    assert "Layout" not in str(found.value)
    assert isinstance(found.value.__cause__, RuntimeError)


def test_numbers_where_indices_belong() -> None:
    module = nn.Sequential(nn.Embedding(9, 2), nn.Flatten(), nn.Linear(2 * F, F), LIF()).double()
    with pytest.raises(ShapeError, match=r"runs on indices: give it x\.to\(torch\.int64\)"):
        wired(module, data())


def test_truth_values_where_numbers_belong() -> None:
    x = torch.ones(3, 2, F, dtype=torch.bool)
    with pytest.raises(ShapeError, match=r"runs on floating-point numbers: give it x\.to\(torch\.float32\)") as found:
        wired(nn.Sequential(LIF()), x)
    assert "indices" not in str(found.value)


def test_a_type_that_is_wrong_inside_is_not_said_of_the_input() -> None:
    module = around(nn.Tanh())
    module[2].float()
    with pytest.raises(RuntimeError, match="dtype") as found:
        wired(module)
    assert type(found.value) is RuntimeError
    assert found.value.__notes__[0].startswith("'2' (Linear) raised this when the network was wired")


def test_another_device() -> None:
    with pytest.raises(ShapeError, match=r"layers are on meta, and x is on cpu: bring both to one device"):
        wired(around(nn.Tanh()).to("meta"))


class Mine(Exception):
    pass


def raises(error: Exception) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        raise error

    return forward


OWN = [RuntimeError("my message"), ValueError("need 13"), KeyError("k"), Mine("mine"), NotImplementedError("not yet")]


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("error", OWN, ids=repr)
def test_an_error_of_the_users_own(error: Exception, behind: bool) -> None:
    module = around(Lambda(lambda m, x: raises(error)(x))) if behind else failing(raises(error))
    with pytest.raises(type(error)) as found:
        wired(module)
    assert found.value is error
    note = rf"'{int(behind)}' (Lambda) raised this when the network was wired"
    assert error.__notes__[-1].startswith(note) and "Layout" not in error.__notes__[-1]


def asserts(x: Tensor) -> Tensor:
    assert x.dtype == torch.float32, "need single precision"
    return x


def test_what_would_help_is_said_of_the_users_own_error_too() -> None:
    with pytest.raises(AssertionError, match="need single precision") as found:
        wired(failing(asserts, torch.float32), data())
    assert "give it x.to(torch.float32)" in found.value.__notes__[0]


def test_an_error_for_samples_beside_those_of_the_data() -> None:
    def bounded(x: Tensor) -> Tensor:
        if not bool((x == 0.7).any()) or bool((x > 0.75).any()):
            raise ValueError("out of bounds")
        return x

    with pytest.raises(ValueError) as found:
        wired(failing(bounded), data("constant"))
    assert str(found.value) == "out of bounds" and "on four samples like" in found.value.__notes__[0]


FAULTS: dict[str, tuple[Callable[[Tensor], object], type[Exception]]] = {
    "values": (lambda x: torch.linalg.cholesky(-torch.eye(F)), RuntimeError),
    "index": (lambda x: torch.eye(F)[x.long() + 20], IndexError),
    "no gradient": (lambda x: x.requires_grad_().numpy(), RuntimeError),
    "division": (lambda x: x / (1 // 0), ZeroDivisionError),
    "attribute": (lambda x: x.nothing, AttributeError),
    "leaf": (lambda x: nn.Parameter(torch.ones(F)).add_(x.sum()), RuntimeError),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_that_is_none_of_shape(name: str) -> None:
    forward, kind = FAULTS[name]
    with pytest.raises(kind) as found:
        wired(failing(forward))
    assert not isinstance(found.value, ShapeError | NetworkError) and "Layout" not in found.value.__notes__[0]


SHAPES: dict[str, Callable[[Tensor], object]] = {
    "product": lambda x: x @ torch.ones(F - 1, F).double(),
    "function": lambda x: f.linear(x, torch.ones(F, F + 1).double()),
    "sum": lambda x: x + torch.ones(F - 1),
    "view": lambda x: x.view(len(x), 7, -1),
    "axis": lambda x: x.mean(3),
    "entry": lambda x: x[:, F],
    "concatenated": lambda x: torch.cat([x, x[:, :, None]]),
    "convolution": lambda x: f.conv2d(x, torch.ones(2, 2, 3, 3).double()),
}


READ = rf"read as \[time={T}, batch={N}, feature=\[{F}\]\].*{ADVICE}"


@pytest.mark.parametrize("name", SHAPES)
def test_an_operation_of_the_users_own_that_shapes_do_not_fit(name: str) -> None:
    """It may be the operation that is wrong: the error is what torch raises, and the note says what x was."""
    with pytest.raises((RuntimeError, IndexError)) as found:
        wired(failing(SHAPES[name]))
    assert not isinstance(found.value, ShapeError)
    assert re.match(rf"'0' \(Lambda\) raised this .*{READ}", found.value.__notes__[0])


def own_weight() -> nn.Module:
    own = Lambda(lambda m, x: f.linear(x, m.weight))
    own.weight = nn.Parameter(torch.ones(F, F + 1))
    return own


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(F + 1, 2),
    "spectral": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(F + 1, 2)),
    "convolution": lambda: nn.Conv2d(2, 2, 3),
    "axis": lambda: nn.Unflatten(1, (5, 2)),
    "weight of the user's own": own_weight,
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_that_the_input_does_not_fit(name: str) -> None:
    with pytest.raises(ShapeError, match=rf"^'0' .*{READ}"):
        wired(nn.Sequential(LAYERS[name](), LIF()).double())


@pytest.mark.parametrize(
    "module, feature",
    [
        (nn.Sequential(nn.Linear(F, F), LIF()), [F]),
        (nn.Sequential(nn.Conv2d(2, 2, 3), LIF(), nn.Flatten()), [2, 5, 5]),
        (nn.Sequential(nn.BatchNorm2d(2), LIF(), nn.Flatten()), [2, 5, 5]),
        (nn.Sequential(Lambda(lambda m, x: x.mean((2, 3))), nn.Linear(2, 4), LIF()), [2, 5, 5]),
        (nn.Sequential(Lambda(lambda m, x: x.permute(0, 2, 3, 1)), LIF(), nn.Flatten()), [2, 5, 5]),
    ],
    ids=["linear", "convolution", "norm", "mean", "permuted"],
)
def test_a_missing_axis(module: nn.Module, feature: list[int]) -> None:
    says = rf"It runs on samples of shape \[{', '.join(map(str, feature))}\], .* x\.expand\(steps.*x\.unsqueeze\(1\)"
    with pytest.raises(ShapeError, match=says):
        wired(module, torch.rand(T, *feature))


def test_nothing_is_left_behind() -> None:
    module = failing(raises(RuntimeError("mine")))
    module[2].seen = seen = [1]
    with pytest.raises(RuntimeError, match="mine"):
        wired(module)
    assert module[2].seen is seen == [1] and not any("forward" in vars(m) for m in module.modules())
    Network(around(nn.Tanh())).run(data())
