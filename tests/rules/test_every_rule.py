"""What must be true of every rule on every network: its gradient is the one its paper says."""

import pytest
import torch
from torch import Tensor

from spikewright.network import Network
from spikewright.reports.gradient_check import certify
from spikewright.testing._trials import different_chunks
from tests.catalogue import CASES, Entry, everywhere
from tests.nets import NETS, sample
from tests.oracles.compare import assert_agree, relative
from tests.rules.support import as_new, by_bptt, by_program, collected, found, gradients, learn, network

every_case = pytest.mark.parametrize("entry, name", CASES, ids=[f"{entry}-{name}" for entry, name in CASES])
PROBED = {name: Network(NETS[name](0)) for name in NETS}
CHUNKS = [
    (entry, name, chunk)
    for entry, name in CASES
    for chunk in different_chunks(entry.make, PROBED[name], sample(name, 0)[0])
]
"""Every length of a chunk, with every rule and network that it makes run otherwise than by default."""


def silent(output: Tensor, y: Tensor) -> Tensor:
    """A criterion that teaches nothing."""
    return 0 * output.sum()


@every_case
def test_is_live(entry: Entry, name: str) -> None:
    module = as_new(name)
    last = learn(entry.make(), module, *sample(name, 0))[-1]
    assert last.rates and all(0.01 < rate < 0.99 for rate in last.rates.values()), last.rates
    assert all(grad.any() for grad in collected(module).values())


@every_case
def test_equals_its_explicit_program(entry: Entry, name: str) -> None:
    assert_agree(found(entry, name), by_program(entry, name), 1e-10)


@every_case
def test_equals_bptt_where_it_claims_to_and_nowhere_else(entry: Entry, name: str) -> None:
    distances = relative(found(entry, name), by_bptt(entry, name))
    equal = {parameter for parameter, distance in distances.items() if distance < 1e-12}
    assert equal == entry.equal(name), distances
    assert all(distance > 1e-2 for parameter, distance in distances.items() if parameter not in equal), distances


@every_case
def test_keeps_its_promises_and_makes_those_it_can(entry: Entry, name: str) -> None:
    certificate = certify(network(as_new(name)), entry.make(), *sample(name, 0), entry.loss)
    assert certificate.ok, certificate.table()
    assert {row.site for row in certificate.rows if row.exact} == (entry.promised or entry.equal)(name)
    assert {row.site for row in certificate.rows} == everywhere(name)


@pytest.mark.parametrize("entry, name, chunk", CHUNKS, ids=["-".join(map(str, case)) for case in CHUNKS])
def test_every_chunk_length_gives_the_same(entry: Entry, name: str, chunk: int) -> None:
    assert_agree(gradients(entry.make(chunk=chunk), as_new(name), *sample(name, 0)), found(entry, name))


@every_case
def test_the_order_of_the_batch_is_nothing_to_a_rule(entry: Entry, name: str) -> None:
    if entry.noisy:
        pytest.skip("noise belongs to places in the batch")
    (x, y), order, module = sample(name, 0), [2, 0, 1], as_new(name)
    assert_agree(gradients(entry.make(), module, x[:, order], y[order]), found(entry, name))
    straight, turned = (
        torch.cat([u.output for u in learn(entry.make(), module, x[:, o], y[o])]) for o in ([0, 1, 2], order)
    )
    torch.testing.assert_close(turned, straight[:, order], rtol=1e-12, atol=1e-12)


@every_case
def test_no_teaching_no_learning(entry: Entry, name: str) -> None:
    grads = gradients(entry.make(), as_new(name), *sample(name, 0), type(entry.loss)(silent))
    assert not any(grad.any() for grad in grads.values())
