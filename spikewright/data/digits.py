"""Digits: 1,797 small handwritten digits that scikit-learn carries along."""

import torch

from spikewright.data.dataset import Dataset, Split
from spikewright.data.moments import channel_statistics
from spikewright.data.optional import optional_import
from spikewright.data.selection import stratified


def digits(test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """Load the test part of the Optical Recognition of Handwritten Digits (Alpaydin & Kaynak, UCI repository, 1998).

    10 classes, images (1, 8, 8); the 17 levels of the source, 0 to 16, are spread over 0 to 255.  There are no files
    to provide: the 1,797 samples come with scikit-learn.  They have no published division, so a seeded one is made,
    stratified by class; the statistics are those of its training part.

    Args:
        test_fraction: Share of every class that becomes the test part.
        seed: Seed of the division.

    Raises:
        ImportError: scikit-learn is not installed.
        InputError: `test_fraction` is not between 0 and 1.
    """
    source = optional_import("sklearn.datasets", "The data set 'digits'").load_digits()
    levels = torch.from_numpy(source.images)[:, None]
    whole = Split((levels * (255 / 16)).round().to(torch.uint8), torch.from_numpy(source.target).long())
    kept, held = stratified(whole.labels, test_fraction, seed)
    train = whole.subset(kept)
    mean, std = channel_statistics(train.images)
    return Dataset("digits", train, whole.subset(held), classes=10, mean=mean, std=std)
