"""Contracts of a rule about settings of torch, modes, precision and small batches."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from spikewright.errors import SpikewrightError
from spikewright.network import Network
from spikewright.rules import Rule
from spikewright.testing._trials import Trial, gradients
from spikewright.testing.contracts import Contract


def settings(trial: Trial) -> None:
    """Gradient mode and default dtype are unchanged at every update and afterwards."""
    contract, net, (x, y) = trial.contract("settings of torch"), trial.net, trial.data()
    with _put_back():
        before = _settings()
        for _ in trial.make().updates(net, x, y, trial.loss):
            _as_before(contract, before, "at an update")
        _as_before(contract, before, "after learning")
    net.zero_grad()


def _settings() -> dict[str, object]:
    return {
        "torch.is_grad_enabled()": torch.is_grad_enabled(),
        "torch.is_inference_mode_enabled()": torch.is_inference_mode_enabled(),
        "torch.get_default_dtype()": torch.get_default_dtype(),
    }


def _as_before(contract: Contract, before: dict[str, object], when: str) -> None:
    for name, value in _settings().items():
        contract.holds(value == before[name], f"{name} is {value} {when}, and was {before[name]}.")


@contextmanager
def _put_back() -> Iterator[None]:
    dtype = torch.get_default_dtype()
    try:
        with torch.enable_grad():
            yield
    finally:
        torch.set_default_dtype(dtype)


def random_state(trial: Trial) -> None:
    """After its first sequence it draws nothing, unless it is noisy, and it never seeds the generator of torch."""
    rule, data, contract = trial.make(), trial.data(), trial.contract("random numbers")
    trial.learn(rule)  # draws that are made once, such as feedback weights
    ends = []
    for seed in (3, 4):
        torch.default_generator.manual_seed(seed)
        start = torch.get_rng_state()
        _learn(trial, rule, trial.net, data)
        trial.net.zero_grad()
        ends.append(torch.get_rng_state())
        contract.holds(
            trial.noisy or torch.equal(ends[-1], start),
            "it draws from the random numbers of torch at every sequence, or seeds them. A rule that draws keeps a "
            "generator of its own, or is noisy=True.",
        )
    contract.holds(
        not torch.equal(*ends),
        "it seeds the random numbers of torch, which others draw from: whatever the seed, they go on alike after it. "
        "Use a generator of its own, or torch.random.fork_rng.",
    )


def evaluation(trial: Trial) -> None:
    """A network in evaluation mode stays in it."""
    net, contract = trial.new_net(), trial.contract("modes")
    net.module.eval()
    if not _learns(trial, contract, net, "in evaluation"):
        return
    moved = [name or "the module" for name, module in net.module.named_modules() if module.training]
    contract.holds(not moved, f"a network in evaluation is learned in, and {moved} are in training after it.")


def frozen(trial: Trial) -> None:
    """A frozen parameter gets no gradient and stays frozen."""
    contract = trial.contract("frozen parameters")
    for name in trial.whole.gradients:
        net = trial.new_net()
        parameter = net.module.get_parameter(name).requires_grad_(False)
        if not _learns(trial, contract, net, f"with '{name}' frozen"):
            continue
        contract.holds(not parameter.requires_grad, f"'{name}' is frozen before learning, and is not after it.")
        contract.holds(parameter.grad is None, f"'{name}' is frozen, and has a gradient after learning.")


def single_precision(trial: Trial) -> None:
    """It learns in float32."""
    contract, net, (x, y) = trial.contract("single precision"), trial.new_net(), trial.data()
    net.module.float()
    with contract.no_failure("in float32, where it learns in float64,"):
        _learn(trial, trial.make(), net, (x.float(), y))
    found = gradients(net)
    odd = [name for name, value in found.items() if value.dtype != torch.float32 or not value.isfinite().all()]
    contract.holds(not odd, f"in a network of float32 the gradients of {odd} are not finite ones of float32.")
    contract.holds(any(value.any() for value in found.values()), "in float32 no gradient arrives anywhere.")


def one_sample(trial: Trial) -> None:
    """Every parameter that learns from a batch learns from one of its samples alone."""
    (x, y), contract = trial.data(), trial.contract("one sample")
    found: list[dict[str, Tensor]] = []
    for place in range(len(y)):
        with contract.no_failure(f"with one sample, where it learns from {len(y)},"):
            found.append(trial.learn(data=(x[:, place : place + 1], y[place : place + 1])).gradients)
    live = [name for name, value in trial.whole.gradients.items() if value.any()]
    dead = [name for name in live if not any(table[name].any() for table in found)]
    contract.holds(not dead, f"{dead} learn from a batch, but not from any of its samples alone.")


def _learn(trial: Trial, rule: Rule, net: Network, data: tuple[Tensor, Tensor]) -> None:
    for _ in rule.updates(net, *data, trial.loss):
        pass


def _learns(trial: Trial, contract: Contract, net: Network, where: str) -> bool:
    """Learn; return False if the rule refuses."""
    data = trial.data()
    with contract.no_failure(where):
        try:
            _learn(trial, trial.make(), net, data)
        except SpikewrightError:
            return False
    return True
