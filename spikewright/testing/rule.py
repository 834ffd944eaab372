"""What is asked of a learning rule, asked of one."""

from collections.abc import Callable, Collection

import torch

from spikewright.errors import ConfigError, nearest
from spikewright.losses import Loss
from spikewright.rules import Rule
from spikewright.testing import _keeping, _learning, _outside
from spikewright.testing._backward import backward
from spikewright.testing._trials import Trial
from spikewright.testing.nets import NETS

EVERYWHERE: tuple[Callable[[Trial], None], ...] = (
    _outside.settings,
    _keeping.untouched_network,
    _outside.evaluation,
    _outside.frozen,
    _keeping.repetition,
    _keeping.updates,
    _keeping.fresh_copies,
    _keeping.state_dict,
    _learning.live_gradients,
    _learning.no_error,
    backward,
    _learning.accumulation,
    _learning.order_of_the_batch,
    _outside.one_sample,
    _outside.single_precision,
    _outside.random_state,
    _learning.chunks,
    _learning.credit_through_time,
    _learning.resumption,
    _learning.claims,
)
"""The contracts that hold on every network, those first that others rest on."""


def assert_rule(
    make: Callable[..., Rule],
    *,
    loss: Loss | None = None,
    nets: Collection[str] | None = None,
    refuses: Collection[str] = (),
    resumes: bool | None = None,
    noisy: bool = False,
) -> None:
    """Hold a learning rule to everything that the library takes for granted of one.

    On every network it either learns or is refused before the first step.  Where it learns: every parameter gets a
    gradient; neither the chunk nor the order of the batch changes it; it is BPTT's where `exact` says so, for one step
    and for several; no error leaves none; it is added to `.grad`, and is as many times as large as `backward` makes the
    losses (in a second task too, where a rule goes around another); a sequence may be taken up in the middle; a rule
    goes on from its `state_dict`, and a copy of it leaves it alone; two runs are the same.  The network stays as it
    was, in evaluation too, and so do frozen parameters, the settings of torch and, unless the rule is noisy, the random
    numbers of torch.  It learns in float32, and from one sample.
    And what `traits` declare is what is measured: credit through time, updates, memory, where gradients come from.

    Args:
        make: Builds the rule; takes `chunk`.
        loss: What it learns by, for class indices; `None` is cross-entropy of steps, or of the mean output for a rule
            of rates.
        nets: Names of the networks to try, see `spikewright.testing.NETS`; `None` is all of them.
        refuses: Names of those that it has to refuse; all others it has to learn in.
        resumes: A sequence learned in two pieces gives the gradient of the whole; `None` is yes for rules that learn
            from steps without credit through time, unless they are noisy.
        noisy: It draws noise, which belongs to places in the batch, so that their order matters.

    Raises:
        AssertionError: A contract is broken; says which, on which network, and how far off it is.
        ConfigError: There is no network of that name.
    """
    for name in (*(nets or ()), *refuses):
        if name not in NETS:
            raise ConfigError(f"assert_rule was told of a network '{name}', which is unknown. {nearest(name, NETS)}")
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        _keeping.traits(make)
        told = make().traits
        steps = told.loss != "rate" and not told.credit_through_time and not noisy
        learned = []
        for name in nets or NETS:
            trial = Trial(make, name, loss, steps if resumes is None else resumes, noisy)
            if _keeping.refusal(trial, name in refuses):
                continue
            learned.append(trial)
            for contract in EVERYWHERE:
                contract(trial)
        if learned:
            _keeping.memory(learned[0])
            any(_learning.layer_hook(trial) for trial in learned)
