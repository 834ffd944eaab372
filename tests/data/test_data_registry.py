import inspect

import pytest
import torch
from sklearn.datasets import load_digits

from spikewright.data import load, loader, names
from spikewright.data.digits import digits
from spikewright.data.synthetic import synthetic
from spikewright.errors import ConfigError, DatasetMissing

ON_DISK = {
    "cifar10": "data_batch_5",
    "cifar100": "cifar-100-python",
    "fashion_mnist": "t10k-labels-idx1-ubyte",
    "folder": "train/<class>/*.png",
    "mnist": "train-images-idx3-ubyte",
}


@pytest.mark.parametrize("name", sorted(ON_DISK))
def test_a_data_set_with_files_says_which_it_needs(name, tmp_path):
    with pytest.raises(DatasetMissing, match="without a data_dir") as error:
        load(name)
    assert ON_DISK[name] in str(error.value)
    with pytest.raises(DatasetMissing, match=r"there is nothing at .*/nowhere") as error:
        load(name, tmp_path / "nowhere")
    assert ON_DISK[name] in str(error.value)
    (tmp_path / "plain").touch()
    with pytest.raises(DatasetMissing, match="there is a file at"):
        load(name, str(tmp_path / "plain"))
    with pytest.raises(DatasetMissing, match="holds 1 entries: plain"):
        load(name, tmp_path)


def test_a_leading_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DatasetMissing, match=f"looks for train-images.* in {tmp_path}"):
        load("mnist", "~")


def test_every_name_has_an_inspectable_loader():
    for name in names():
        parameters = inspect.signature(loader(name)).parameters
        assert ("data_dir" in parameters) == (name in ON_DISK)
        assert all(option.annotation is not inspect.Parameter.empty for option in parameters.values())


def test_unknown_names_and_options_get_the_nearest():
    with pytest.raises(ConfigError, match=r"'minst' is unknown\. Did you mean 'mnist'"):
        load("minst")
    with pytest.raises(ConfigError, match=r"'digits' has no option 'sed'\. Did you mean 'seed'"):
        load("digits", sed=1)


def test_options_reach_the_loader_and_an_unneeded_folder_is_ignored(tmp_path):
    data = load("synthetic", tmp_path / "nowhere", classes=3, size=12, features=(2, 4, 5))
    assert (data.classes, len(data.train), data.shape) == (3, 12, (2, 4, 5))


def test_digits_are_those_of_the_source_in_a_stratified_division():
    data = digits()
    source = load_digits()
    assert data.shape == (1, 8, 8) and len(data.train) + len(data.test) == 1797
    rows = {
        tuple((image / 16 * 255).round().astype(int).ravel()): label
        for image, label in zip(source.images, source.target)
    }
    for split in (data.train, data.test):
        assert all(rows[tuple(i.flatten().tolist())] == y for i, y in zip(split.images, split.labels.tolist()))
    share = data.test.labels.bincount() / torch.from_numpy(source.target).bincount()
    assert ((share - 0.2).abs() < 0.01).all()
    assert data.mean == pytest.approx([float((data.train.images / 255).mean())], abs=1e-5)


def test_digits_depend_on_their_seed_and_fraction():
    first, again, other = digits(), digits(), digits(seed=1)
    assert torch.equal(first.test.images, again.test.images)
    assert not torch.equal(first.test.images, other.test.images)
    assert len(digits(test_fraction=0.5).test) == pytest.approx(1797 / 2, abs=10)
    with pytest.raises(ConfigError, match=r"fraction=1.5"):
        digits(test_fraction=1.5)


def test_a_missing_package_is_named_with_the_extra(monkeypatch):
    def without(name):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("spikewright.data.optional.import_module", without)
    with pytest.raises(ImportError, match=r"'digits' needs the module 'sklearn\.datasets'.*spikewright\[cli\]"):
        digits()


def test_the_synthetic_ceiling_is_reached_by_the_nearest_class_mean():
    data = synthetic(size=80)
    flat = data.train.images.flatten(1).float()
    centres = torch.stack([flat[data.train.labels == label].mean(0) for label in range(4)])
    guess = torch.cdist(data.test.images.flatten(1).float(), centres).argmin(1)
    assert torch.equal(guess, data.test.labels)
    assert data.train.labels.bincount().tolist() == [20] * 4
    assert not torch.equal(data.train.images, data.test.images)


def test_synthetic_depends_on_its_seed_and_checks_its_sizes():
    assert torch.equal(synthetic(seed=2).train.images, synthetic(seed=2).train.images)
    assert not torch.equal(synthetic(seed=2).train.images, synthetic(seed=3).train.images)
    for wrong in ({"classes": 1}, {"size": 3}):
        with pytest.raises(ConfigError, match=r"synthetic\("):
            synthetic(**wrong)
