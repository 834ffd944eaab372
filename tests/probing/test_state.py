"""A module that answers the same input differently a second time is refused, and one that only takes notes is not."""

from collections.abc import Callable

import pytest
from torch import nn

from tests.probing.stateful import RECURRENT, STATEFUL, STATELESS
from tests.probing.support import around, data, refused, wired


@pytest.mark.parametrize("behind", [0, 3])
@pytest.mark.parametrize("kind", STATEFUL)
def test_a_module_that_keeps_a_state(kind: str, behind: int) -> None:
    refused(around(STATEFUL[kind](), behind), rf"'{2 * behind + 1}' \({kind}\).*same input.*keeps a state.*Feedback")


@pytest.mark.parametrize("kind", sorted(STATEFUL.keys() - {"OwnNeuron", "Float"}))
def test_in_evaluation_and_inside_of_others(kind: str) -> None:
    inner = nn.Sequential(nn.Identity(), nn.Sequential(STATEFUL[kind]()))
    refused(around(inner).eval(), rf"'1\.1\.0' \({kind}\)", data(samples=1))


@pytest.mark.parametrize("build", RECURRENT.values(), ids=RECURRENT)
def test_a_network_that_keeps_spikes_or_currents_on_itself(build: Callable[[], nn.Module]) -> None:
    module = build().double()
    refused(module, rf"The forward of {type(module).__name__} itself.*keeps a state.*spikewright.Feedback")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("build", STATELESS.values(), ids=STATELESS)
def test_what_takes_notes_or_computes_its_weight(build: Callable[[], nn.Module], training: bool) -> None:
    wired(around(build()).train(training))
