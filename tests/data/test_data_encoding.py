import pytest
import torch

from spikewright._util.randomness import keyed_generator
from spikewright.data.encoding import ENCODINGS, ConstantCurrent, Latency, Poisson, encoding
from spikewright.errors import ConfigError, InputError


def test_direct_repeats_without_copying():
    images = torch.randn(2, 3, 4, 4)
    x = ConstantCurrent()(images, 5, keyed_generator(0))
    assert x.shape == (5, 2, 3, 4, 4) and x.data_ptr() == images.data_ptr() and x.stride(0) == 0
    assert all(torch.equal(step, images) for step in x)


def test_poisson_rates_are_the_intensities():
    images = torch.tensor([0.0, 0.2, 0.7, 1.0]).view(1, 1, 2, 2)
    spikes = Poisson()(images, 4000, keyed_generator(0))
    assert set(spikes.unique().tolist()) == {0.0, 1.0} and spikes.dtype == torch.float32
    rates = spikes.mean(0).flatten()
    assert rates[0] == 0 and rates[3] == 1
    assert rates[1:3].tolist() == pytest.approx([0.2, 0.7], abs=0.03)


def test_poisson_draws_every_element_by_itself():
    spikes = Poisson()(torch.full((20, 1, 10, 10), 0.5), 20, keyed_generator(0))
    for axis in (0, 1, 3, 4):
        first, second = spikes.unbind(axis)[:2]
        assert 0.4 < (first == second).float().mean() < 0.6


def test_latency_spikes_once_and_the_brighter_the_earlier():
    images = torch.tensor([1.0, 0.76, 0.5, 0.1, 0.0]).view(1, 1, 1, 5)
    spikes = Latency()(images, 5, keyed_generator(0))
    assert (spikes.sum(0) == 1).all()
    assert spikes.argmax(0).flatten().tolist() == [0, 1, 2, 4, 4]
    assert (Latency()(images, 1, keyed_generator(0)) == 1).all()


@pytest.mark.parametrize("bad", [-0.1, 1.5, float("nan")])
@pytest.mark.parametrize("name", ["poisson", "latency"])
def test_intensities_off_the_scale_are_refused(name, bad):
    with pytest.raises(InputError, match=f"'{name}' got images with intensities"):
        encoding(name)(torch.full((1, 1, 2, 2), bad), 2, keyed_generator(0))


def test_names():
    assert {name: type(encoding(name)) for name in ENCODINGS} == ENCODINGS
    with pytest.raises(ConfigError, match="Did you mean 'poisson'"):
        encoding("poison")
