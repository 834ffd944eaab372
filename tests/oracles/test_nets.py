"""The modules of `tests/nets.py` compute what their step programs compute."""

import pytest
import torch

import spikewright
from tests.nets import NETS, sample
from tests.oracles.machine import forward
from tests.oracles.programs import PROGRAMS


def test_every_net_has_a_program() -> None:
    assert NETS.keys() == PROGRAMS.keys()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("seed", range(2))
def test_module_and_program_have_one_forward_pass(name: str, seed: int) -> None:
    module, (x, _) = NETS[name](seed), sample(name, seed)
    expected, _ = forward(PROGRAMS[name], dict(module.named_parameters()), x)
    with torch.no_grad():
        output, _ = spikewright.Network(module).run(x)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
