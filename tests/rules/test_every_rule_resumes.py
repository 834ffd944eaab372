"""A sequence may be taken up again in the middle, from plain tensors and nothing else."""

import io
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor, nn

from spikewright.losses import Loss, PerStep
from spikewright.rules import Rule
from spikewright.temporal import State
from tests.catalogue import CASES, RULES, STEPWISE, Entry
from tests.nets import NETS, sample
from tests.oracles.machine import Params
from tests.rules.support import (
    CE,
    NOISY,
    as_new,
    assert_identical,
    collected,
    gradients,
    learn,
    loss_for,
    names,
    unless_refused,
)

every_rule = pytest.mark.parametrize("entry", RULES, ids=names())
QUIET = [entry for entry in STEPWISE if not entry.noisy]
PIECE = PerStep(nn.functional.cross_entropy, steps=6)


def piece_loss(rule: Rule) -> Loss:
    """The loss of a part of a sequence."""
    return loss_for(rule) if rule.traits.loss == "rate" else PIECE


def flat(state: State) -> Params:
    """A state as one table of plain tensors."""
    table = {f"{site}/{name}": value for site, carried in state.items() for name, value in carried.items()}
    assert not any(value.requires_grad for value in table.values())
    return table


def stored(state: State) -> State:
    """A state after a round trip through bytes, as a table of tensors."""
    file = io.BytesIO()
    torch.save(flat(state), file)
    file.seek(0)
    back: State = {}
    for key, value in torch.load(file, weights_only=True).items():
        site, name = key.rsplit("/", 1)
        back.setdefault(site, {})[name] = value
    return back


def in_pieces(rule: Rule, module: nn.Module, name: str, through_bytes: bool) -> Params:
    torch.default_generator.manual_seed(3)
    x, y = sample(name, 0)
    state = learn(rule, module, x[:3], y, piece_loss(rule))[-1].state
    learn(rule, module, x[3:], y, piece_loss(rule), stored(state) if through_bytes else state)
    return {n: grad.clone() for n, grad in collected(module).items()}


@pytest.mark.parametrize("entry, name", CASES, ids=[f"{entry}-{name}" for entry, name in CASES])
def test_two_pieces_through_bytes(entry: Entry, name: str) -> None:
    resumed = in_pieces(entry.make(), as_new(name), name, through_bytes=True)
    assert_identical(resumed, in_pieces(entry.make(), as_new(name), name, through_bytes=False))
    if entry.resumes:
        assert_identical(resumed, gradients(entry.make(), as_new(name), *sample(name, 0)))


@pytest.mark.parametrize("entry", STEPWISE, ids=names(STEPWISE))
@pytest.mark.parametrize("name", NOISY)
def test_masks_and_their_seeds_resume_too(entry: Entry, name: str) -> None:
    unless_refused(entry, name)
    resumed = in_pieces(entry.make(), NOISY[name](), name, through_bytes=True)
    if entry.resumes:
        assert_identical(resumed, gradients(entry.make(), NOISY[name](), *sample(name, 0)))
    else:
        assert_identical(resumed, in_pieces(entry.make(), NOISY[name](), name, through_bytes=False))


@every_rule
def test_a_rule_goes_on_from_its_state_dict(entry: Entry) -> None:
    module, (x, y) = NETS["mlp"](0), sample("mlp", 0)
    rule, other = entry.make(), entry.make()
    for _ in range(3):
        gradients(rule, module, x, y)
    other.load_state_dict(rule.state_dict())
    assert_identical(gradients(other, module, x, y), gradients(rule, module, x, y))


@every_rule
def test_an_earlier_update_keeps_its_state(entry: Entry) -> None:
    name = "feedback" if entry.learns_in("feedback") else "mlp"
    module, (x, y) = NETS[name](0), sample(name, 0)
    updates = learn(entry.make(), module, x, y)
    assert sum(len(update.output) for update in updates) == len(x)
    first = updates[0]
    alone = learn(entry.make(), module, x[: len(first.output)], y)
    assert_identical(flat(first.state), flat(alone[-1].state))


def frame_by_frame(rule: Rule, pieces: Iterable[Tensor], y: Tensor) -> Params:
    """The gradients of a stream."""
    module, state = NETS["mlp"](0), None
    for piece in pieces:
        state = learn(rule, module, piece, y, piece_loss(rule), state)[-1].state
    return collected(module)


@every_rule
def test_frames_may_arrive_in_one_buffer(entry: Entry) -> None:
    """What a rule carries is its own: the caller may write the next frames over the last ones."""
    x, y = sample("mlp", 0)
    pieces = x.split(entry.make().traits.least_steps)
    buffer = torch.empty_like(pieces[0])
    overwritten = frame_by_frame(entry.make(), (buffer.copy_(piece) for piece in pieces), y)
    assert_identical(overwritten, frame_by_frame(entry.make(), pieces, y))


@pytest.mark.parametrize("entry", QUIET, ids=names(QUIET))
def test_losses_of_the_pieces_add_up(entry: Entry) -> None:
    module, (x, y) = NETS["mlp"](0), sample("mlp", 0)
    total = torch.stack([update.loss for update in learn(entry.make(), module, x, y, CE)]).sum()
    first = learn(entry.make(), module, x[:4], y, PIECE)
    rest = learn(entry.make(), module, x[4:], y, PIECE, first[-1].state)
    torch.testing.assert_close(torch.stack([u.loss for u in [*first, *rest]]).sum(), total, rtol=1e-12, atol=0)
