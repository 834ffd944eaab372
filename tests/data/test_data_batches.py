from itertools import pairwise

import pytest
import torch

from spikewright._util.randomness import keyed_generator
from spikewright.data import Batches, Split
from spikewright.errors import ConfigError, InputError, ShapeError

N = 22
RECIPES = [("none", "direct"), ("ottt-cifar", "direct"), ("crop-flip", "poisson"), ("crop", "latency")]


@pytest.fixture
def split() -> Split:
    """The label of a sample is its position."""
    images = torch.randint(0, 256, (N, 3, 8, 8), dtype=torch.uint8, generator=keyed_generator(0))
    return Split(images, torch.arange(N))


def batches(split: Split, **changes) -> Batches:
    options = {"batch_size": 4, "steps": 3, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)} | changes
    return Batches(split, **options)


def same(first, second) -> bool:
    return all(torch.equal(a, b) for pair in zip(first, second, strict=True) for a, b in zip(*pair, strict=True))


def test_an_epoch_holds_every_sample_once(split):
    loader = batches(split)
    seen = list(loader.epoch(0))
    assert len(loader) == len(seen) == 6 and [len(y) for _, y in seen] == [4, 4, 4, 4, 4, 2]
    order = torch.cat([y for _, y in seen])
    assert sorted(order.tolist()) == list(range(N)) and order.tolist() != list(range(N))
    assert seen[0][0].shape == (3, 4, 3, 8, 8) and seen[0][0].dtype == torch.float32 and order.dtype == torch.int64


def test_images_stay_with_their_labels_and_are_normalised(split):
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    for x, y in batches(split).epoch(2):
        torch.testing.assert_close(x[0], (split.images[y] / 255 - mean) / std)
        assert torch.equal(x[0], x[2])


def test_spike_encodings_get_intensities(split):
    for x, y in batches(split, encoding="latency", steps=256).epoch(0):
        torch.testing.assert_close(1 - x.argmax(0) / 255, split.images[y] / 255)


def test_float_images_are_taken_as_they_are(split):
    floats = Split(split.images / 255, split.labels)
    for (x, _), (reference, _) in zip(batches(floats).epoch(0), batches(split).epoch(0), strict=True):
        torch.testing.assert_close(x, reference)


@pytest.mark.parametrize(("augment", "encoding"), RECIPES)
def test_resuming_anywhere_gives_the_batches_of_the_whole_epoch(split, augment, encoding):
    whole = list(batches(split, augment=augment, encoding=encoding).epoch(3))
    for start in range(len(whole) + 1):
        resumed = batches(split, augment=augment, encoding=encoding)
        assert same(resumed.epoch(3, start), whole[start:])


@pytest.mark.parametrize(("augment", "encoding"), RECIPES)
def test_global_random_state_is_neither_read_nor_changed(split, augment, encoding):
    loader = batches(split, augment=augment, encoding=encoding)
    torch.manual_seed(0)
    first, state = list(loader.epoch(1)), torch.get_rng_state()
    torch.manual_seed(1)
    assert same(loader.epoch(1), first)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)


def test_orders_differ_between_epochs_and_seeds(split):
    orders = [
        tuple(torch.cat([y for _, y in batches(split, seed=seed).epoch(epoch)]).tolist())
        for seed in (0, 1)
        for epoch in range(4)
    ]
    assert len(set(orders)) == 8


@pytest.mark.parametrize("changes", [{"augment": "crop-flip"}, {"augment": "ottt-cifar"}, {"encoding": "poisson"}])
def test_random_choices_differ_between_batches_epochs_and_seeds(changes):
    """All samples are one image, so any difference comes from augmentation or spikes."""
    image = torch.randint(1, 256, (1, 3, 8, 8), dtype=torch.uint8, generator=keyed_generator(0))
    split = Split(image.expand(8, -1, -1, -1).clone(), torch.zeros(8, dtype=torch.int64))
    seen = [
        x
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
        for x, _ in batches(split, shuffle=False, seed=seed, **changes).epoch(epoch)
    ]
    assert len(seen) == 6 and not any(torch.equal(a, b) for i, a in enumerate(seen) for b in seen[i + 1 :])
    assert not all(torch.equal(a, b) for a, b in pairwise(seen[0].unbind(1)))


def test_without_shuffling_the_order_is_the_given_one(split):
    assert torch.cat([y for _, y in batches(split, shuffle=False).epoch(5)]).tolist() == list(range(N))


def test_drop_last_leaves_out_the_partial_batch(split):
    loader = batches(split, drop_last=True)
    assert len(loader) == 5 and [len(y) for _, y in loader.epoch(0)] == [4] * 5
    assert same(loader.epoch(0), list(batches(split).epoch(0))[:5])
    assert len(batches(split.subset(torch.arange(8)), drop_last=True)) == 2


@pytest.mark.parametrize(("augment", "encoding"), RECIPES)
def test_the_parts_of_the_ranks_make_up_the_batch(split, augment, encoding):
    whole = batches(split, augment=augment, encoding=encoding)
    ranks = [batches(split, augment=augment, encoding=encoding, rank=rank, world=2) for rank in range(2)]
    assert len(ranks[0]) == len(whole)
    for (x, y), *parts in zip(whole.epoch(1), *(rank.epoch(1) for rank in ranks), strict=True):
        assert [len(labels) for _, labels in parts] == [len(y) // 2] * 2
        assert torch.equal(torch.cat([part for part, _ in parts], 1), x)
        assert torch.equal(torch.cat([labels for _, labels in parts]), y)


def test_parts_differ_by_one_sample_and_a_small_batch_is_given_to_all(split):
    whole = list(batches(split).epoch(1))
    ranks = [batches(split, rank=rank, world=3) for rank in range(3)]
    shares = [[loader.share(1, index) for index in range(len(loader))] for loader in ranks]
    parts = [[y for _, y in loader.epoch(1)] for loader in ranks]
    assert [[len(y) for y in part] for part in parts] == [[2] * 5 + [2], [1] * 5 + [2], [1] * 5 + [2]]
    for index, (_, y) in enumerate(whole):
        for rank in range(3):
            share = shares[rank][index]
            assert share.total == len(y) and torch.equal(parts[rank][index], y[share.start : share.stop])
    drawn = [torch.rand(9, generator=share[3].draws).tolist() for share in shares]
    assert drawn[0] == drawn[1] == drawn[2] != torch.rand(9, generator=shares[0][4].draws).tolist()


def test_the_number_of_a_rank_is_checked(split):
    for rank, error in ((-1, ConfigError), (2, InputError)):
        with pytest.raises(error, match=f"rank={rank}"):
            batches(split, rank=rank, world=2)


@pytest.mark.parametrize("changes", [{"batch_size": 0}, {"steps": 0}, {"batch_size": -4}])
def test_sizes_below_one_are_refused(split, changes):
    with pytest.raises(ConfigError, match=r"at least one .* a whole number, (at least|from) 1"):
        batches(split, **changes)


def test_no_batch_at_all_is_refused(split):
    with pytest.raises(InputError, match="given 0 samples, which make no batch"):
        batches(split.subset(torch.arange(0)))
    with pytest.raises(InputError, match="given 22 samples, which make no batch"):
        batches(split, batch_size=23, drop_last=True)


def test_statistics_must_fit_the_channels(split):
    with pytest.raises(ShapeError, match="1 means and 3 deviations for images with 3 channels"):
        batches(split, mean=(0.5,))
    with pytest.raises(ConfigError, match=r"Batches\(std=0.0\): .* above 0"):
        batches(split, std=(0.2, 0.0, 0.2))


def test_unknown_names_are_refused(split):
    with pytest.raises(ConfigError, match="augmentation 'flop'"):
        batches(split, augment="flop")
    with pytest.raises(ConfigError, match="encoding 'rate'"):
        batches(split, encoding="rate")


@pytest.mark.parametrize(("epoch", "start"), [(-1, 0), (0, -1), (0, 7)])
def test_positions_outside_the_epoch_are_refused_at_once(split, epoch, start):
    with pytest.raises(InputError, match=f"epoch {epoch} from number {start}"):
        batches(split).epoch(epoch, start)


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("mean", 1.5),
        ("mean", None),
        ("std", {}),
        ("device", "word"),
        ("device", None),
        ("augment", [1]),
        ("encoding", {}),
        ("encoding", [10**5000]),
    ],
)
def test_arguments_of_other_types_are_refused(split, name, bad):
    with pytest.raises(ConfigError, match=rf"Batches\({name}=|The {name}"):
        batches(split, **{name: bad})


def test_batches_are_of_a_split(split):
    with pytest.raises(ConfigError, match=r"split=\(<Tensor \[22, 3, 8, 8\]>, <Tensor \[22\]>\).*class Split"):
        batches((split.images, split.labels))


@pytest.mark.parametrize("bad", ["0", None, 0.5, -1])
def test_positions_are_whole_numbers(split, bad):
    loader = batches(split)
    for ask in (lambda: loader.epoch(bad), lambda: loader.epoch(0, bad), lambda: loader.share(bad, 0)):
        with pytest.raises(InputError, match=r"Batches of epoch .* were asked for"):
            ask()
    with pytest.raises(InputError, match="a number of 0 to 5"):
        loader.share(0, 6)
