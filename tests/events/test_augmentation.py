"""Augmentations: what they do to events is what they do to frames; draws are reproducible."""

import math

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from spikewright.errors import ConfigError, InputError, ShapeError
from spikewright.events import (
    EVENT_AUGMENTATIONS,
    Augmentation,
    Chain,
    Crop,
    Cutout,
    DropArea,
    DropRandomly,
    DropTime,
    Events,
    Flip,
    JitterTime,
    OneOf,
    Roll,
    Rotate,
    Shear,
    ShiftTime,
    augmented,
    event_augmentation,
    mixup,
)


def events(seed: int = 0, n: int = 400) -> Events:
    """Of one sensor, times from 0 to 999."""
    draw = np.random.default_rng(seed)
    where = draw.integers(0, 11, n), draw.integers(0, 7, n), draw.integers(0, 2, n)
    return Events(np.sort(draw.integers(0, 1000, n)), *where, height=7, width=11)


def generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)


MOVES = [Flip(), Roll(4), Chain((Flip(), Roll(3)))]


def frames(of: Events) -> Tensor:
    """Frames over 0 to 1000, whatever events were left out."""
    made = np.zeros((5, 2, of.height, of.width), np.float32)
    np.add.at(made, (np.minimum(of.t // 200, 4), of.p, of.y, of.x), 1)
    return torch.from_numpy(made)


@pytest.mark.parametrize("change", [*MOVES, Crop(4), Cutout(5), OneOf((Flip(1.0), Crop(2), Cutout(3)))], ids=repr)
def test_changing_events_is_changing_their_frames(change: Augmentation) -> None:
    changed = 0
    for seed in range(20):
        made = change(frames(events()), generator(seed))
        assert torch.equal(frames(change(events(), generator(seed))), made)
        changed += not torch.equal(made, frames(events()))
    assert changed >= 5


def test_a_roll_and_a_crop_reach_all_of_their_range_and_no_more() -> None:
    point = torch.zeros(1, 1, 9, 9)
    point[0, 0, 4, 4] = 1
    for change in (Roll(2), Crop(2)):
        found = {tuple(change(point, generator(seed))[0, 0].nonzero()[0].tolist()) for seed in range(400)}
        assert found == {(y, x) for y in range(2, 7) for x in range(2, 7)}


def test_what_a_crop_moves_out_is_lost_and_what_a_roll_moves_out_comes_back() -> None:
    ones = torch.ones(1, 1, 4, 4)
    assert all(Roll(3)(ones, generator(seed)).sum() == 16 for seed in range(20))
    sums = {int(Crop(1)(ones, generator(seed)).sum()) for seed in range(50)}
    assert sums == {16, 12, 9}


def fixed(monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    monkeypatch.setattr("spikewright.events.geometry.draw_share", lambda generator: share)


def test_a_quarter_turn_is_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed(monkeypatch, 1.0)
    square = torch.arange(2 * 25.0).view(2, 1, 5, 5)
    assert torch.equal(Rotate(90.0)(square, generator(0)), square.rot90(-1, (-2, -1)))
    fixed(monkeypatch, 0.0)
    assert torch.equal(Rotate(90.0)(square, generator(0)), square.rot90(1, (-2, -1)))
    fixed(monkeypatch, 0.5)
    assert torch.equal(Rotate(90.0)(square, generator(0)), square)


def test_events_turn_the_same_way_as_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    fixed(monkeypatch, 1.0)
    square = Events(*np.array([[0, 1, 2], [0, 4, 1], [0, 1, 3], [1, 0, 1]]), height=5, width=5)
    for change in (Rotate(90.0), Shear(45.0)):
        torch.testing.assert_close(frames(change(square, generator(0))), change(frames(square), generator(0)))


def test_turned_and_sheared_pixels_come_from_where_the_map_says(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.arange(1, 7 * 11 + 1).float().view(1, 1, 7, 11)
    for share in (0.1, 0.37, 0.8):
        fixed(monkeypatch, share)
        angle = math.radians(25.0) * (2 * share - 1)
        cos, sin, tan = math.cos(angle), math.sin(angle), math.tan(angle)
        turn_back, move_back = np.array([[cos, sin], [-sin, cos]]), np.array([[1, -tan], [0, 1]])
        for change, back in ((Rotate(25.0), turn_back), (Shear(25.0), move_back)):
            made = change(image, generator(0))[0, 0]
            for y in range(7):
                for x in range(11):
                    fx, fy = back @ [x - 5.0, y - 3.0]
                    at = math.floor(fx + 5.5), math.floor(fy + 3.5)
                    inside = 0 <= at[0] < 11 and 0 <= at[1] < 7
                    assert made[y, x] == (image[0, 0, at[1], at[0]] if inside else 0)


def test_a_type_of_whole_numbers_stays() -> None:
    whole = torch.ones(2, 2, 8, 8, dtype=torch.uint8)
    for change in (Flip(), Roll(2), Crop(2), Cutout(3), Rotate(20.0), Shear(20.0)):
        made = change(whole, generator(1))
        assert made.dtype == torch.uint8 and made.shape == whole.shape
    assert int(whole.sum()) == 256  # and the frames given are not written to


def test_dropping_leaves_out_a_span_a_box_or_a_share() -> None:
    of, shares = events(n=4000), list[float]()
    for seed in range(60):
        left = DropTime(0.9)(of, generator(seed))
        gaps = np.diff(np.concatenate([[of.t.min() - 1], left.t, [of.t.max() + 1]]))
        missing = np.setdiff1d(of.t, left.t)
        if len(missing):
            assert missing.max() - missing.min() <= gaps.max()
            assert not ((left.t >= missing.min()) & (left.t <= missing.max())).any()
        boxed = DropArea(0.5)(of, generator(seed))
        gone = np.setdiff1d(of.y * 11 + of.x, boxed.y * 11 + boxed.x)
        if len(gone):
            y, x = np.divmod(gone, 11)
            assert len(gone) == (np.ptp(y) + 1) * (np.ptp(x) + 1) and np.ptp(y) < 3.5 and np.ptp(x) < 5.5
        shares.append(len(DropRandomly(0.8)(of, generator(seed))) / len(of))
    assert 0.2 - 0.03 < min(shares) < 0.35 and 0.9 < max(shares) <= 1 and 0.5 < np.mean(shares) < 0.7


def test_times_move() -> None:
    of = events()
    moved = {int((ShiftTime(3)(of, generator(seed)).t - of.t)[0]) for seed in range(100)}
    assert moved == {0, 1, 2, 3}
    jittered = JitterTime(20.0)(of, generator(0))
    assert jittered.in_order and len(jittered) == len(of) and jittered.t.min() >= 0
    assert not np.array_equal(jittered.t, of.t)
    assert np.array_equal(JitterTime(0.0)(of, generator(0)).t, of.t)


@pytest.mark.parametrize("change", [DropTime(), DropArea(), DropRandomly(), ShiftTime(1), JitterTime(1.0)], ids=repr)
def test_what_changes_single_events_refuses_frames(change: Augmentation) -> None:
    with pytest.raises(ConfigError, match="which frames have added up"):
        change(torch.zeros(2, 2, 4, 4), generator(0))
    empty = events().at(slice(0, 0))
    assert len(change(empty, generator(0))) == 0


def test_a_recording_is_changed_alike_wherever_it_is_in_the_batch() -> None:
    x = torch.rand(3, 6, 2, 8, 8)
    change = Chain((Flip(), Roll(4)))
    numbers = torch.tensor([4, 8, 15, 16, 23, 42])
    whole = augmented(x, change, numbers, seed=1, epoch=2)
    order = torch.tensor([5, 0, 3])
    assert torch.equal(augmented(x[:, order], change, numbers[order], seed=1, epoch=2), whole[:, order])
    assert not torch.equal(augmented(x, change, numbers, seed=1, epoch=3), whole)
    assert not torch.equal(augmented(x, change, numbers, seed=2, epoch=2), whole)
    alike = augmented(x[:, :1].expand(-1, 6, -1, -1, -1), change, numbers, seed=1, epoch=2)
    assert any(not torch.equal(alike[:, 0], alike[:, k]) for k in range(1, 6))


def test_all_frames_of_a_recording_are_changed_alike() -> None:
    x = torch.rand(1, 1, 2, 8, 8).expand(4, 1, 2, 8, 8)
    for change in EVENT_AUGMENTATIONS.values():
        if change is not EVENT_AUGMENTATIONS["event-drop"]:
            made = augmented(x, change, torch.tensor([3]), seed=0, epoch=0)
            assert all(torch.equal(made[0], made[k]) for k in range(4))


def test_mixup_adds_shares_of_frames_and_labels() -> None:
    x, y = torch.eye(5).expand(3, 5, 5), torch.tensor([0, 1, 2, 1, 0])  # each recording marks its own place
    shares, partners = list[float](), set[tuple[int, int]]()
    for seed in range(300):
        mixed, target = mixup(x, y, generator(seed), classes=3, alpha=0.5)
        mix = mixed[0]
        assert torch.equal(mixed, mix.expand(3, 5, 5))
        torch.testing.assert_close(target, mix @ torch.eye(3)[y])
        torch.testing.assert_close(mix.sum(1), torch.ones(5))
        torch.testing.assert_close(mix.sum(0), torch.ones(5))  # each is a partner once
        moved = [i for i in range(5) if mix[i, i] < 1]
        for i in moved:
            others = mix[i].nonzero().flatten().tolist()
            assert len(others) <= 2
            partners.update((i, j) for j in others)
        if moved:
            shares.append(float(mix[moved[0], moved[0]]))
            torch.testing.assert_close(mix.diag()[moved], torch.full((len(moved),), shares[-1]))
    assert len(partners) == 25
    assert abs(np.mean(shares) - 0.5) < 0.06 and np.var(shares) == pytest.approx(0.125, abs=0.02)  # Beta(1/2, 1/2)
    assert torch.equal(mixup(x, y, generator(7), classes=3)[0], mixup(x, y, generator(7), classes=3)[0])


WRONG = [
    lambda: Flip(1.5),
    lambda: Roll(-1),
    lambda: Crop(0.5),  # pyright: ignore[reportArgumentType]
    lambda: Cutout(0),
    lambda: Rotate(181.0),
    lambda: Shear(90.0),
    lambda: DropTime(2.0),
    lambda: DropArea(-0.1),
    lambda: DropRandomly(float("nan")),
    lambda: ShiftTime(-1),
    lambda: JitterTime(-1.0),
    lambda: OneOf(()),
    lambda: Chain([Flip()]),  # pyright: ignore[reportArgumentType]
    lambda: event_augmentation("nda"),
    lambda: Flip()(torch.zeros(2, 2, 4, 4), 0),  # pyright: ignore[reportArgumentType]
]


@pytest.mark.parametrize("make", WRONG)
def test_wrong_settings_are_refused(make: object) -> None:
    with pytest.raises(ConfigError):
        make()  # pyright: ignore[reportCallIssue]


def test_wrong_batches_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"Change a batch with augmented"):
        Flip()(torch.zeros(2, 3, 2, 4, 4), generator(0))
    with pytest.raises(ShapeError, match="augmented got frames"):
        augmented(torch.zeros(2, 3, 2, 4, 4), Flip(), torch.arange(2), seed=0, epoch=0)
    with pytest.raises(ShapeError, match="mixup got x"):
        mixup(torch.zeros(2, 3, 4, dtype=torch.uint8), torch.arange(3), generator(0), classes=3)
    with pytest.raises(InputError, match="labels from 0 to 2 for 2 classes"):
        mixup(torch.zeros(2, 3, 4), torch.arange(3), generator(0), classes=2)
