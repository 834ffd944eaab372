"""Events of images that move: against a slow program with one pixel at a time, and what they are good for."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import spikewright as sw
from spikewright.errors import ConfigError, InputError, ShapeError
from spikewright.events import ByBins, Events, InMemory, framed, saccade_digits, saccades


def slow(
    image: np.ndarray, travel: float, duration: int, step: int, threshold: float, ahead: np.ndarray
) -> list[tuple[int, ...]]:
    """Each pixel by itself, in Python's floats; enlarged by 1, thresholds all alike."""
    margin, height, width = math.ceil(travel / 2) + 1, *image.shape
    corners = [(-travel / 2, 0.0), (travel / 2, travel / 2), (travel / 2, -travel / 2), (-travel / 2, 0.0)]

    def place(number: int) -> tuple[float, float]:
        side, rest = divmod(number, duration // step)
        if side == 3:
            return corners[3]
        share, (a, b), (c, d) = rest / (duration // step), corners[side], corners[side + 1]
        return (1 - share) * a + share * c, (1 - share) * b + share * d

    def pixel(y: int, x: int) -> float:
        y, x = y - margin, x - margin
        return float(image[y, x]) if 0 <= y < height and 0 <= x < width else 0.0

    def brightness(y: int, x: int, number: int) -> float:
        down, right = place(number)
        top, left = math.floor(y - down), math.floor(x - right)
        v, u = y - down - top, x - right - left
        rows = [(1 - u) * pixel(top + k, left) + u * pixel(top + k, left + 1) for k in (0, 1)]
        return math.log((1 - v) * rows[0] + v * rows[1] + 0.1)

    found = list[tuple[int, ...]]()
    for y in range(height + 2 * margin):
        for x in range(width + 2 * margin):
            before = brightness(y, x, 0)
            level = before + threshold * (float(ahead[y, x]) - 0.5)
            for number in range(1, 3 * duration // step + 1):
                now = brightness(y, x, number)
                while abs(now - level) >= threshold:
                    level += threshold if now > level else -threshold
                    t = (number - 1) * step + min(
                        step - 1, max(0, math.floor((level - before) / (now - before) * step))
                    )
                    found.append((t, x, y, int(now > before)))
                before = now
    return sorted(found)


def test_events_equal_those_of_a_program_for_each_pixel() -> None:
    image = np.array([[0.0, 0.9, 0.2], [0.7, 1.0, 0.1], [0.3, 0.0, 0.8]])
    settings = {"travel": 3.0, "duration": 1000, "step": 100, "threshold": 0.137}
    got = saccades(torch.tensor(image)[None, None].float(), torch.tensor([0]), scale=1, mismatch=0.0, **settings)[0][0]
    draw = np.random.default_rng(0)
    draw.standard_normal((9, 9))  # of the thresholds, which are alike here
    expected = slow(image.astype(np.float32), **settings, ahead=draw.random((9, 9)))
    found = sorted(zip(got.t.tolist(), got.x.tolist(), got.y.tolist(), got.p.tolist()))
    assert len(expected) > 100 and got.in_order
    assert [row[1:] for row in sorted(found, key=lambda r: r[1:])] == [
        r[1:] for r in sorted(expected, key=lambda r: r[1:])
    ]
    assert max(abs(a[0] - b[0]) for a, b in zip(found, expected)) <= 1  # floats of another order of addition


def test_the_same_seed_makes_the_same_events_and_another_does_not() -> None:
    images, labels = torch.rand(3, 1, 6, 6), torch.tensor([2, 0, 1])
    one, again, other = (saccades(images, labels, seed=seed) for seed in (5, 5, 6))
    assert one.digest == again.digest != other.digest
    assert InMemory(one.recordings, (2, 0, 2)).digest != one.digest
    assert [label for _, label in one] == [2, 0, 1]


def test_images_do_not_depend_on_those_made_with_them() -> None:
    images = torch.rand(70, 1, 4, 4)
    labels = torch.arange(70)
    alone = saccades(images[66:67], labels[66:67])[0][0]
    among = saccades(images, labels)[66][0]
    assert all(np.array_equal(getattr(alone, name), getattr(among, name)) for name in "txyp")


def test_a_pixel_that_comes_back_to_its_brightness_has_as_many_rising_as_falling_events() -> None:
    got = saccades(torch.rand(1, 1, 5, 5), torch.tensor([0]), mismatch=0.0)[0][0]
    signed = np.zeros((got.height, got.width))
    np.add.at(signed, (got.y, got.x), 2 * got.p.astype(int) - 1)
    assert np.abs(signed).max() <= 1 and len(got) > 100  # the image ends where it began, but for less than a threshold


def test_a_black_image_has_no_events_and_frames_all_the_same() -> None:
    recordings = saccades(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]))
    data = framed(recordings, ByBins(3))
    assert data.steps.tolist() == [3, 3] and len(data.places) == 0


def test_whole_and_real_images_are_the_same() -> None:
    images = torch.randint(0, 256, (2, 1, 5, 5), dtype=torch.uint8)
    real = saccades(images.double().div(255).float(), torch.tensor([0, 1]))
    for (a, _), (b, _) in zip(saccades(images, torch.tensor([0, 1])), real):
        assert abs(len(a) - len(b)) <= 2


def test_wrong_settings_are_refused() -> None:
    images, labels = torch.zeros(1, 1, 4, 4), torch.tensor([0])
    with pytest.raises(InputError, match="no whole number of steps"):
        saccades(images, labels, duration=1000, step=300)
    with pytest.raises(ShapeError, match=r"one brightness"):
        saccades(torch.zeros(1, 3, 4, 4), labels)
    with pytest.raises(ConfigError):
        saccades(images, labels, threshold=0.0)
    with pytest.raises(ConfigError, match="part"):
        saccade_digits("validation")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="one label"):
        InMemory((Events(*np.zeros((4, 0), np.int64), height=1, width=1),), ())


@pytest.mark.long
def test_a_network_learns_the_digits_from_their_events() -> None:
    pytest.importorskip("sklearn")
    train, test = (framed(saccade_digits(part), ByBins(6, clip=4)) for part in ("train", "test"))
    assert (len(train), len(test), train.feature) == (1438, 359, (2, 20, 20))
    net = sw.Network(nn.Sequential(nn.Flatten(), nn.Linear(800, 64), sw.LIF(), nn.Linear(64, 10)))
    rule, loss = sw.rules.OTTT(), sw.losses.PerStep(nn.CrossEntropyLoss())
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(3):
        for chosen in torch.randperm(len(train)).split(64):
            x, _ = train.batch(chosen)
            for _ in rule.updates(net, x, train.labels[chosen], loss):
                optimizer.step()
                optimizer.zero_grad()
    with torch.no_grad():
        output, _ = net.run(test.batch(torch.arange(len(test)))[0])
    right = (output.mean(0).argmax(1) == test.labels).float().mean()
    assert right > 0.85, right
