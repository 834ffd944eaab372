import math

import pytest
import torch

from spikewright._util.randomness import keyed_generator
from spikewright.data import Dataset, Split
from spikewright.data.moments import channel_statistics
from spikewright.errors import ConfigError, InputError, ShapeError

COUNTS = (40, 20, 7, 1)


def split(labels: list[int], channels: int = 1) -> Split:
    """Every image carries its own position, so that samples can be recognised."""
    images = torch.arange(len(labels), dtype=torch.float32).view(-1, 1, 1, 1) / 1000
    return Split(images.expand(-1, channels, 2, 2).clone(), torch.tensor(labels, dtype=torch.int64))


def positions(part: Split) -> list[int]:
    return (part.images[:, 0, 0, 0] * 1000).round().long().tolist()


@pytest.fixture
def data() -> Dataset:
    labels = [label for label, count in enumerate(COUNTS) for _ in range(count)]
    return Dataset("toy", split(labels), split([0, 1, 2, 3]), classes=4, mean=(0.0,), std=(1.0,))


def test_shape_and_length(data):
    assert data.shape == (1, 2, 2) and len(data.train) == sum(COUNTS)
    assert data.augment == "none"


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(3, 2, 2), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(3, 1, 2, 2), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.int32)),
        (torch.zeros(3, 1, 2, 2, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(3, 1, 2, 2), torch.zeros(3, 1, dtype=torch.int64)),
        (None, torch.zeros(3, dtype=torch.int64)),
        ([[0.0]], torch.zeros(1, dtype=torch.int64)),
        (torch.zeros(3, 1, 2, 2), [0, 0, 0]),
        (torch.zeros(3, 1, 2, 2), None),
        (torch.zeros(3, 1, 2, 2, device="meta"), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(3, 1, 2, 2).to_sparse(), torch.zeros(3, dtype=torch.int64)),
    ],
)
def test_split_refuses_other_layouts(images, labels):
    with pytest.raises(ShapeError, match=r"one int64 label for each|(images|labels) (has to be|is) a tensor"):
        Split(images, labels)


@pytest.mark.parametrize("bad", [4, -1])
def test_the_first_label_out_of_range_is_named(bad):
    with pytest.raises(InputError, match=rf"4 classes, but the test label at index 2 is {bad} \(1 of 4"):
        Dataset("toy", split([0, 1]), split([0, 1, bad, 3]), classes=4, mean=(0.0,), std=(1.0,))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_named(value):
    train = split([0, 1, 0])
    train.images[1, 0, 1, 1] = value
    with pytest.raises(InputError, match=r"train image at index 1 \(1 of 3"):
        Dataset("toy", train, split([0]), classes=2, mean=(0.0,), std=(1.0,))


def test_parts_and_statistics_must_fit():
    with pytest.raises(ShapeError, match=r"training images \[1, 2, 2\], test images \[3, 2, 2\]"):
        Dataset("toy", split([0]), split([0], channels=3), classes=1, mean=(0.0,), std=(1.0,))
    with pytest.raises(ShapeError, match="2 means"):
        Dataset("toy", split([0]), split([0]), classes=1, mean=(0.0, 0.0), std=(1.0,))
    with pytest.raises(ConfigError, match=r"Dataset\(std=0.0\): .* above 0"):
        Dataset("toy", split([0]), split([0]), classes=1, mean=(0.0,), std=(0.0,))


def test_a_limited_part_is_balanced_and_nested(data):
    small, large = data.limited(train=8), data.limited(train=20)
    assert small.train.labels.bincount().tolist() == [3, 2, 2, 1]
    assert large.train.labels.bincount().tolist() == [7, 6, 6, 1]
    assert set(positions(small.train)) < set(positions(large.train))
    assert positions(small.train) == sorted(positions(small.train)) and len(small.test) == 4


def test_limits_keep_all_when_there_are_fewer(data):
    assert len(data.limited(train=10_000).train) == len(data.limited().train) == sum(COUNTS)
    assert len(data.limited(test=2).test) == 2
    with pytest.raises(ConfigError, match=r"limited\(test=0\): .* None is for all"):
        data.limited(test=0)


def test_validation_is_stratified_disjoint_and_complete(data):
    rest, held = data.with_validation(0.25, seed=3)
    assert held.labels.bincount(minlength=4).tolist() == [10, 5, 2, 0]
    assert sorted(positions(rest.train) + positions(held)) == list(range(sum(COUNTS)))
    assert all(label == data.train.labels[at] for at, label in zip(positions(held), held.labels.tolist()))
    assert rest.test is data.test


def test_a_small_class_has_samples_on_both_sides(data):
    rest, held = data.with_validation(0.01)
    assert held.labels.bincount(minlength=4).tolist() == [1, 1, 1, 0]
    rest, held = data.with_validation(0.99)
    assert rest.train.labels.bincount().tolist() == [1, 1, 1, 1]


def test_validation_depends_on_the_seed_alone(data):
    first, again, other = (positions(data.with_validation(0.25, seed)[1]) for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize("fraction", [0, 1, -0.5, math.nan])
def test_validation_needs_a_proper_fraction(data, fraction):
    with pytest.raises(ConfigError, match=r"\(fraction=.* a number in \(0, 1\)"):
        data.with_validation(fraction)


def test_statistics_agree_with_the_definition():
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8, generator=keyed_generator(0))
    floats = images.float() / 255
    for given in (images, floats):
        mean, std = channel_statistics(given)
        assert mean == pytest.approx(floats.double().mean((0, 2, 3)).tolist())
        assert std == pytest.approx(floats.double().std((0, 2, 3), correction=0).tolist())
    assert channel_statistics(torch.full((2, 1, 2, 2), 51, dtype=torch.uint8)) == ((0.2,), (1.0,))


@pytest.mark.parametrize("level", [0, 1, 7, 85, 254, 255])
def test_a_channel_that_never_changes_has_the_deviation_one(level):
    whole = torch.full((3, 1, 5, 7), level, dtype=torch.uint8)
    for images in (whole, whole[:1, :, :1, :1], whole.float() / 255, (whole.double() / 3).half(), whole * 1e-40):
        (mean,), (std,) = channel_statistics(images)
        assert std == 1.0 and mean == (level / 255 if images.dtype == torch.uint8 else float(images[0, 0, 0, 0]))
    varied = torch.cat([whole, (whole + 1) % 255], 1)
    varied[0, 1] = 255
    assert channel_statistics(varied)[1][0] == 1.0 != channel_statistics(varied)[1][1]


@pytest.mark.parametrize("scale", [1e-320, 1e-45, 1e-170, 1.0, 1e30, 1e200, 1.7e308])
def test_deviations_neither_vanish_nor_overflow(scale):
    images = torch.tensor([-1.0, 1.0, 1.0, -1.0], dtype=torch.float64).view(2, 1, 1, 2) * scale
    (mean,), (std,) = channel_statistics(images)
    assert mean == pytest.approx(0, abs=1e-15 * scale) and std == pytest.approx(scale, rel=1e-12)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_statistics_of_what_is_not_finite_are_refused(value):
    images = torch.rand(2, 3, 4, 4)
    images[1, 2, 0, 0] = value
    with pytest.raises(InputError, match="1 of 32 values of a channel are NaN or infinite"):
        channel_statistics(images)
    with pytest.raises(InputError, match="no pixel"):
        channel_statistics(torch.rand(0, 1, 4, 4))


def test_keys_name_independent_streams():
    keys = [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0), ("first",), ("second",), ("first", 0)]
    drawn = {tuple(torch.rand(3, generator=keyed_generator(seed, *key)).tolist()) for seed in (0, 1) for key in keys}
    assert len(drawn) == 2 * len(keys)
    with pytest.raises(InputError, match="seed=-1"):
        keyed_generator(-1)


@pytest.mark.parametrize(
    ("name", "bad", "error"),
    [
        ("train", None, "object of the class Split"),
        ("test", (1, 2), "object of the class Split"),
        ("mean", 0.5, "is a sequence"),
        ("std", "1", "is a sequence"),
        ("std", (1.0, 1.0), "2 deviations"),
        ("augment", ["crop"], "augmentation .* is unknown"),
    ],
)
def test_other_arguments_are_refused(name, bad, error):
    given = {"name": "toy", "train": split([0]), "test": split([0]), "classes": 1, "mean": (0.0,), "std": (1.0,)}
    with pytest.raises((ConfigError, ShapeError), match=error):
        Dataset(**given | {name: bad})


@pytest.mark.parametrize(
    ("indices", "error"),
    [
        ([0, 1], ShapeError),
        (None, ShapeError),
        (torch.tensor([True, False, True]), ShapeError),
        (torch.tensor(1), ShapeError),
        (torch.tensor([0, 3]), InputError),
        (torch.tensor([-1]), InputError),
    ],
)
def test_samples_are_chosen_by_their_positions(indices, error):
    part = split([0, 1, 2])
    with pytest.raises(error, match="indices"):
        part.subset(indices)
    assert positions(part.subset(torch.tensor([2, 0]))) == [2, 0] and not len(part.subset(torch.tensor([]).long()))
