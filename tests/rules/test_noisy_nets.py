"""Rules on networks with batch statistics and dropout masks, in training mode."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.network import Network
from spikewright.reports.gradient_check import certify
from tests.catalogue import STEPWISE, Entry
from tests.nets import sample
from tests.oracles.compare import assert_agree
from tests.oracles.machine import Machine, Params
from tests.rules.support import (
    CE,
    NOISY,
    assert_identical,
    collected,
    dense,
    gradients,
    learn,
    names,
    prepared,
    unless_refused,
)

every_rule = pytest.mark.parametrize("entry", STEPWISE, ids=names(STEPWISE))
QUIET = [entry for entry in STEPWISE if not entry.noisy]
every_net = pytest.mark.parametrize("name", NOISY)


def statistics(module: nn.Module) -> Params:
    return {name: buffer.clone() for name, buffer in module.named_buffers() if "running" in name}


def program(mask: Tensor) -> Callable[[Tensor, Machine], Tensor]:
    """One step of `dense(step_dropout=False)` with the dropout mask of this sequence."""

    def step(x: Tensor, net: Machine) -> Tensor:
        scale, shift = net.params["1.weight"], net.params["1.bias"]
        current = F.batch_norm(net.syn("0", x, post="2"), None, None, scale, shift, training=True)
        s = net.lif("2", current, tau=2.0)
        s = s * mask.repeat(len(s) // len(mask), 1)
        return net.syn("7", net.lif("6", net.syn("4", s, pre="2", post="6"), tau=2.0), pre="6")

    return step


@every_rule
def test_equals_its_explicit_program(entry: Entry) -> None:
    module, (x, y) = dense(step_dropout=False), sample("mlp", 0)
    params = {name: p.detach().clone() for name, p in module.named_parameters()}
    mask = learn(entry.make(), module, x, y)[-1].state["3"]["mask"]
    assert 0 < (mask == 0).sum() < mask.numel()
    params["0.bias"] = torch.zeros(12)  # the programs have one at every synapse
    rule = prepared(entry, module, x)
    expected = entry.oracle(rule, (program(mask), params, x, y, F.cross_entropy))
    del expected["0.bias"]
    assert_agree(collected(module), expected, 1e-10)


@cache
def in_chunks(entry: Entry, name: str, chunk: int) -> tuple[Params, Params]:
    """The gradients, and the statistics that are left behind."""
    module = NOISY[name]()
    return gradients(entry.make(chunk=chunk), module, *sample(name, 0)), statistics(module)


@every_rule
@every_net
@pytest.mark.parametrize("chunk", [1, 2, 4])
def test_every_chunk_length_gives_the_same(entry: Entry, name: str, chunk: int) -> None:
    unless_refused(entry, name)
    found, expected = in_chunks(entry, name, chunk), in_chunks(entry, name, 6)
    for one, other in zip(found, expected):
        assert_agree(one, other)
    assert all(grad.any() for grad in expected[0].values())


@every_net
@pytest.mark.long
def test_the_forward_pass_is_the_same_for_all_rules(name: str) -> None:
    (x, y), passes = sample(name, 0), []
    for entry in QUIET:
        torch.manual_seed(5)
        module = NOISY[name]()
        outputs = [update.output for update in learn(entry.make(chunk=1), module, x, y)]
        passes.append({"output": torch.cat(outputs), **statistics(module)})
    for other in passes[1:]:
        assert_identical(other, passes[0])


@pytest.mark.parametrize("entry", QUIET, ids=names(QUIET))
@every_net
def test_a_rule_changes_no_forward_pass_in_evaluation(entry: Entry, name: str) -> None:
    unless_refused(entry, name)
    module, (x, y) = NOISY[name]().eval(), sample(name, 0)
    with torch.no_grad():
        expected, _ = Network(module).run(x)
    output = torch.cat([update.output for update in learn(entry.make(), module, x, y)])
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)


@every_rule
def test_the_mask_is_kept_within_a_sequence_and_redrawn_for_the_next(entry: Entry) -> None:
    module, (x, y) = dense(step_dropout=False), sample("mlp", 0)
    first, second = (learn(entry.make(), module, x, y)[-1].state["3"]["mask"] for _ in range(2))
    assert not torch.equal(first, second)
    piece = learn(entry.make(), module, x[:3], y)[-1]
    later = learn(entry.make(), module, x[3:], y, state=piece.state)[-1]
    assert torch.equal(later.state["3"]["mask"], piece.state["3"]["mask"])


@every_rule
@every_net
def test_promises_hold_with_statistics_and_masks(entry: Entry, name: str) -> None:
    unless_refused(entry, name)
    certificate = certify(Network(NOISY[name]()), entry.make(), *sample(name, 0), CE)
    assert certificate.ok, certificate.table()
