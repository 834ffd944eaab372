"""Digits: 1,797 handwritten digits that come with scikit-learn."""

import torch

from spikewright._util.ranges import check_seed, check_within
from spikewright.data.dataset import Dataset, Split
from spikewright.data.moments import channel_statistics
from spikewright.data.optional import optional_import
from spikewright.data.selection import stratified


def digits(test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """Load the handwritten digits of scikit-learn: grey images (1, 8, 8) in 10 classes, 1,797 samples.

    The test part of Optical Recognition of Handwritten Digits, its 17 grey levels spread over 0 to 255. There is no
    published division: training and test parts are a seeded random division, stratified by class. `mean` and `std` are
    those of the training part. No files are needed.

    Args:
        test_fraction: Fraction of every class in the test part, in (0, 1). Default: 0.2.
        seed: Seed of the division, from 0 to 2**63 - 1. Default: 0.

    Raises:
        ImportError: scikit-learn is not installed.
        ConfigError: `test_fraction` is not in (0, 1), or `seed` is negative.

    Reference:
        Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
    """
    check_within("digits", "test_fraction", test_fraction, "(0, 1)", "both parts have samples")
    check_seed("digits", seed)
    source = optional_import("sklearn.datasets", "The data set 'digits'").load_digits()
    levels = torch.from_numpy(source.images)[:, None]
    whole = Split((levels * (255 / 16)).round().to(torch.uint8), torch.from_numpy(source.target).long())
    kept, held = stratified(whole.labels, test_fraction, seed)
    train = whole.subset(kept)
    mean, std = channel_statistics(train.images)
    return Dataset("digits", train, whole.subset(held), classes=10, mean=mean, std=std)
