import pytest
import torch

from spikewright._util.randomness import keyed_generator
from spikewright.data.transforms import AUGMENTATIONS, augmentation, cutout, random_crop, random_flip
from spikewright.errors import ConfigError

N, SIDE = 400, 16


@pytest.fixture
def images() -> torch.Tensor:
    """Pixels 1 to 255, so that a zero can only have come from outside."""
    return torch.randint(1, 256, (N, 3, SIDE, SIDE), dtype=torch.uint8, generator=keyed_generator(1))


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_layout_is_kept_the_input_untouched_and_draws_repeat(images, name, dtype):
    given = images.to(dtype) / 255 if dtype.is_floating_point else images
    before = given.clone()
    first, again = (augmentation(name)(given, keyed_generator(5)) for _ in range(2))
    assert torch.equal(given, before) and torch.equal(first, again)
    assert first.shape == given.shape and first.dtype == dtype
    assert 0 <= first.min() and first.max() <= (1 if dtype.is_floating_point else 255)
    assert torch.equal(first, given) == (name == "none")


def shift_of(cropped: torch.Tensor, image: torch.Tensor, pad: int) -> list[tuple[int, int]]:
    padded = torch.nn.functional.pad(image, (pad,) * 4)
    return [
        (top, left)
        for top in range(2 * pad + 1)
        for left in range(2 * pad + 1)
        if torch.equal(padded[:, top : top + SIDE, left : left + SIDE], cropped)
    ]


def test_a_crop_is_a_window_of_the_padded_image(images):
    cropped = random_crop(images[:120], keyed_generator(2), pad=2)
    shifts = [shift_of(*pair, pad=2) for pair in zip(cropped, images)]
    assert all(len(found) == 1 for found in shifts)
    tops, lefts = zip(*(found[0] for found in shifts))
    assert set(tops) == set(lefts) == {0, 1, 2, 3, 4}
    assert len(set(zip(tops, lefts))) > 15


def test_a_flip_mirrors_half_of_the_images(images):
    flipped = random_flip(images, keyed_generator(3))
    same, mirrored = (flipped == images).flatten(1).all(1), (flipped == images.flip(-1)).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert 0.4 < mirrored.float().mean() < 0.6


def test_cutout_fills_boxes_of_the_stated_sizes(images):
    cut = cutout(images, keyed_generator(4))
    changed = (cut[:, 1:] != images[:, 1:]).any(1)  # green and blue go to zero and were not
    touched = changed.flatten(1).any(1)
    assert 0.4 < touched.float().mean() < 0.6
    levels = set()
    for image, mask in zip(cut[touched], changed[touched]):
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        tall, wide = len(rows), len(columns)
        assert mask.sum() == tall * wide == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        assert tall * wide <= 0.4 * SIDE * SIDE and (tall + 1) * (wide + 1) > 0.02 * SIDE * SIDE
        assert tall / (wide + 1) < 2.5 and (tall + 1) / wide > 0.4
        assert (image[1:, mask] == 0).all() and len(image[0, mask].unique()) == 1
        levels.add(int(image[0, mask][0]))
    assert len(levels) > 80 and min(levels) < 30 and max(levels) > 225
    assert torch.equal(cut[~touched], images[~touched])


def test_cutout_reaches_every_pixel_and_its_mean_area_is_right():
    blank = torch.ones(4000, 3, 32, 32)
    boxes = (cutout(blank, keyed_generator(6), p=1.0)[:, 1] == 0).float()
    assert (boxes.mean(0) > 0).all()
    # Sides are rounded down, which takes a few percent of the 0.21 that is drawn on average.
    assert 0.185 < boxes.mean() < 0.21
    tall, wide = boxes.any(2).sum(1), boxes.any(1).sum(1)
    assert boxes.any(2).float().mean(0)[0] > 0.01 and boxes.any(1).float().mean(0)[-1] > 0.01
    assert 1.2 < (tall / wide).mean() < 1.75


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 40), (3, 40, 2)])
def test_cutout_copes_with_narrow_images(shape):
    assert cutout(torch.rand(50, *shape), keyed_generator(0), p=1.0).shape == (50, *shape)


def test_the_published_recipe_cuts_before_it_flips(images):
    generator = keyed_generator(8)
    expected = random_flip(cutout(random_crop(images, generator), generator), generator)
    assert torch.equal(augmentation("ottt-cifar")(images, keyed_generator(8)), expected)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'crop-flip'"):
        augmentation("crop_flip")
