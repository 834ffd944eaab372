"""`assert_rule`: every contract of a learning rule, checked on one."""

from collections.abc import Callable, Collection

import torch

from spikewright._util.arguments import shown
from spikewright._util.ranges import check_flag
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
    _learning.lengths,
    _outside.one_sample,
    _outside.single_precision,
    _outside.random_state,
    _learning.chunks,
    _learning.credit_through_time,
    _learning.resumption,
    _learning.claims,
)
"""Contracts on every network, in order; later ones rely on earlier ones."""


def assert_rule(
    make: Callable[..., Rule],
    *,
    loss: Loss | None = None,
    nets: Collection[str] | None = None,
    refuses: Collection[str] = (),
    resumes: bool | None = None,
    noisy: bool = False,
) -> None:
    """Check that a learning rule keeps every contract that the library relies on; needs no test framework.

    On every network the rule either learns or is refused before the first step.  Where it learns:

    - Every parameter gets a gradient, and a loss of 0 leaves none.
    - Neither the chunk nor the order of the batch changes the result, and two runs are equal.
    - The gradient is that of BPTT where `exact` claims it, for one step and for several.
    - Gradients are added to `.grad`, and scale with the losses that `batch.backward` differentiates (for a continual
      rule, in a second task too).
    - A sequence can be resumed in the middle, and a rule from its `state_dict`; a copy leaves the rule unchanged.
    - The network stays as it was, in evaluation mode too, and so do frozen parameters, the settings of torch and,
      unless the rule is noisy, its random state.
    - It learns in float32, and from one sample.
    - If it takes lengths of sequences, nothing after their ends changes a gradient.
    - Everything that `traits` declare is measured: credit through time, updates, memory, where gradients come from.

    Args:
        make: Builds the rule.  Function that takes `chunk=...`, such as the class, and returns a `Rule`.
        loss: Loss for class indices.  Instance of `spikewright.losses.Loss`.  Default: None, cross-entropy of each
            step, or of the mean output for a rule that learns from rates.
        nets: Names of networks to try.  Keys of `spikewright.testing.NETS`.  Default: None, all of them.
        refuses: Names of networks that the rule must refuse; it must learn in all others.  Default: ().
        resumes: True if a sequence that is learned in two pieces gives the gradient of the whole.  Default: None, True
            for rules that learn step by step without credit through time, unless they are noisy.
        noisy: True if the rule draws noise, so that the order of the batch matters.  Default: False.

    Raises:
        AssertionError: A contract is broken.  The message says which one, on which network, and by how much.
        ConfigError: There is no network of that name, or a flag is neither True nor False.

    >>> import spikewright as sw
    >>> from spikewright.testing import assert_rule
    >>> assert_rule(sw.rules.SLTT, nets=["if_net"])
    """
    check_flag("assert_rule", noisy=noisy, resumes=False if resumes is None else resumes)
    for name in (*(nets or ()), *refuses):
        if not isinstance(name, str) or name not in NETS:
            raise ConfigError(f"assert_rule was given a network {shown(name)}, which is unknown. {nearest(name, NETS)}")
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        _keeping.traits(make)
        traits = make().traits
        steps = traits.loss != "rate" and not traits.credit_through_time and not noisy
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
