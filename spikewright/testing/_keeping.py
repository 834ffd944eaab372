"""Contracts of a rule about what it declares, keeps and leaves unchanged."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from spikewright.errors import SpikewrightError
from spikewright.reports.memory_profile import plan
from spikewright.rules import Rule, Traits
from spikewright.rules._base import fresh_copy
from spikewright.testing._trials import Trial, copied
from spikewright.testing.contracts import Contract


def traits(make: Callable[..., Rule]) -> None:
    """It is a rule, takes a chunk, and declares traits."""
    rule = make(chunk=2)
    contract = Contract("traits", repr(rule), "no network")
    contract.holds(isinstance(rule, Rule), "it is no spikewright.rules.Rule.")
    contract.holds(isinstance(rule.traits, Traits), "it declares no Traits.")


def refusal(trial: Trial, expected: bool) -> bool:
    """Check that a network is refused before its first step if expected, and not otherwise; return True if it is."""
    rule, net, contract, calls = trial.make(), trial.new_net(), trial.contract("refusal"), []
    x, y = trial.data()
    net.wiring(x)  # its probe is no step
    hook = net.module.register_forward_pre_hook(lambda module, given: calls.append(module))
    try:
        for _ in rule.updates(net, x, y, trial.loss):
            pass
    except SpikewrightError as error:
        contract.holds(expected, f"it is refused, which is not expected: {error}")
        contract.holds(not calls, f"it is refused after {len(calls)} calls of the network, and not before: {error}")
        grads = [name for name, p in net.module.named_parameters() if p.grad is not None]
        contract.holds(not grads, f"it is refused with gradients left at {grads}: {error}")
        return True
    except Exception as error:
        raise AssertionError(
            f"{contract.subject} breaks the contract 'refusal' on {contract.place}: it neither learns nor refuses by "
            f"an error of spikewright.errors, but fails with {type(error).__name__}: {error}"
        ) from error
    finally:
        hook.remove()
    contract.holds(not expected, "it is expected to be refused, and is not.")
    return False


def updates(trial: Trial) -> None:
    """Updates come as often as declared, and cover the sequence and its loss."""
    (x, y), rule, contract = trial.data(), trial.make(), trial.contract("updates")
    found = trial.whole.updates
    expected = [len(x)] if rule.traits.updates == "once" else [1] * len(x)
    lengths = [len(update.output) for update in found]
    contract.holds(lengths == expected, f"updates={rule.traits.updates!r}, but updates come after {lengths} steps.")
    if trial.loss.per_step and not trial.noisy:
        reported = sum(float(update.loss) for update in found)
        value = float(trial.loss(torch.cat([update.output for update in found]), y, len(x)))
        contract.holds(
            abs(reported - value) <= 1e-10 * abs(value),
            f"the updates report a loss of {reported:.12g}, and it is {value:.12g}.",
        )
    odd = [update for update in found if update.loss.requires_grad or update.output.requires_grad]
    contract.holds(not odd, "an update holds a graph.")


def memory(trial: Trial) -> None:
    """Activation memory grows with the number of steps as declared."""
    rule, contract, shape = trial.make(), trial.contract("memory"), trial.data()[0].shape
    declared = rule.traits.memory
    if declared == "unknown":
        return
    if declared == "constant" and not isinstance(rule.chunk, int):
        rule = trial.make(chunk=1)
    measure = (4, 64) if declared == "constant" else (4, 16, 64)
    rows = plan(trial.net, rule, (4, *shape[1:]), measure=measure, report=()).rows
    few, *between, many = (row.saved_bytes for row in rows if row.measured)
    some = between[0] if between else many
    said = f"memory={declared!r}, but {[few, *between, many]} bytes are kept for {list(measure)} steps."
    growth = (many - some) / max(some - few, 1)  # 4 on a line, 2 with the root
    grows = many > some > few
    fits = {"constant": few == some == many, "linear": grows and growth > 3, "root": grows and growth <= 3}
    contract.holds(fits[declared], said)


def state_dict(trial: Trial) -> None:
    """A rule that loads the `state_dict` of another goes on as that does."""
    net, rule, contract = trial.net, trial.make(), trial.contract("state dict")
    for _ in range(2):
        trial.learn(rule, net=net)
    other = trial.make()
    try:
        other.load_state_dict(copied(rule.state_dict()))
    except RuntimeError:  # some buffers depend on the sizes of the network
        other = fresh_copy(other, net, trial.data()[0])
        other.load_state_dict(copied(rule.state_dict()))
    found, expected = trial.learn(other, net=net), trial.learn(rule, net=net)
    contract.agree(found.gradients, expected.gradients, 0, "gradients of a rule from a state_dict and of the original")


def fresh_copies(trial: Trial) -> None:
    """A copy leaves the rule unchanged when it learns."""
    net, rule, contract = trial.net, trial.make(), trial.contract("fresh copy")
    trial.learn(rule, net=net)
    before = copied(rule.state_dict())
    copy = fresh_copy(rule, net, trial.data()[0])
    trial.learn(copy, net=net)
    contract.holds(copy is not rule, "a copy is the rule itself.")
    contract.agree(copied(rule.state_dict()), before, 0, "what a rule keeps after and before a copy of it has learned")


def repetition(trial: Trial) -> None:
    """Two rules of the same arguments learn the same, to the last bit."""
    one, other, contract = trial.whole, trial.learn(), trial.contract("repetition")
    contract.agree(one.gradients, other.gradients, 0, "gradients of two runs of two rules made alike")
    contract.agree({"output": one.output}, {"output": other.output}, 0, "outputs of two runs of two rules made alike")


def untouched_network(trial: Trial) -> None:
    """Learning leaves the network and the data as they were, `.grad` and batch norm aside."""
    net, data, contract = trial.new_net(), trial.data(), trial.contract("untouched network")
    before, values = _marks(net.module), _values(net.module)
    kept = {"x": data[0].clone(), "y": data[1].clone()}
    trial.learn(net=net, data=data)
    contract.agree({"x": data[0], "y": data[1]}, kept, 0, "the batch after and before learning")
    after = _marks(net.module)
    moved = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
    contract.holds(not moved, f"attributes, modes or hooks of {sorted(moved)} are others than before.")
    contract.agree(_values(net.module), values, 0, "parameters and buffers after and before learning")


def _values(module: nn.Module) -> dict[str, torch.Tensor]:
    norms = [name for name, m in module.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    own = {name: value for name, value in module.named_buffers() if name.rpartition(".")[0] not in norms}
    return copied({**dict(module.named_parameters()), **own})


def _marks(module: nn.Module) -> dict[str, Any]:
    """Return attributes, mode and hooks of every module in comparable form."""

    def plain(value: object) -> object:
        return value if isinstance(value, bool | int | float | str | type(None)) else type(value).__name__

    found: dict[str, Any] = {}
    for name, m in module.named_modules():
        found[name or "the module"] = {key: plain(value) for key, value in vars(m).items()} | {
            "hooks": [len(value) for key, value in vars(m).items() if key.endswith("_hooks")],
            "trained": [p.requires_grad for p in m.parameters(recurse=False)],
        }
    return found
