"""`spikewright plot`."""

from pathlib import Path
from typing import TYPE_CHECKING

from spikewright.cli.common import check_positive, open_run
from spikewright.errors import ConfigError, InputError

if TYPE_CHECKING:
    from torch import Tensor

    from spikewright.synapses.operations import Operation


class _Spikes:
    """An observer that keeps the spikes of every neuron."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.by_site: dict[str, Tensor] = {}

    def neuron(self, site: str, current: "Tensor", spikes: "Tensor") -> None:
        self.by_site[site] = spikes.unflatten(0, (self.steps, -1))

    def potential(self, site: str, potential: "Tensor") -> None: ...

    def synapse(self, site: str, operation: "Operation", x: "Tensor", weight: "Tensor", current: "Tensor") -> None: ...


def plot(
    run: Path,
    sample: int = 0,
    steps: int | None = None,
    neurons: int = 80,
    data_dir: Path | None = None,
    out: Path | None = None,
) -> list[Path]:
    """Draw a trained network at work: who spikes when, and how training went.

    Args:
        run: Folder of the run.
        sample: Index of the test sample that is shown to the network.
        steps: Run this many time steps instead of those it was trained with.
        neurons: Show at most so many neurons of each layer.
        data_dir: Folder of the data set, if it has moved.
        out: Folder for the figures; by default that of the run.

    Returns:
        The files: `raster.png` and `curves.png`; `alignment.png` too, if gradients were compared while it trained.
    """
    import torch

    check_positive(neurons=neurons, steps=steps)
    try:
        from spikewright.plots import alignment, curves, raster
    except ImportError as error:
        raise ConfigError(f"plot needs the extra [plots]: {error}. pip install 'spikewright[plots]'") from error
    experiment, saved = open_run(run, data_dir=data_dir, steps=steps)
    test = experiment.images.test
    if not 0 <= sample < len(test):
        raise InputError(f"--sample {sample} was asked for, but the test set has {len(test)} samples.")
    batches = experiment.measuring(test.subset(torch.tensor([sample])))
    x, _ = next(batches.epoch(0))
    observer = _Spikes(len(x))
    experiment.net.eval()
    with torch.no_grad():
        passed = experiment.net.start(x, observers=(observer,))
        passed.advance(x)
    titles = {site: f"{site}: {rate:.0%} fire per step" for site, rate in passed.rates().items()}
    folder = out or run
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "raster.png": raster({site: spikes[:, 0] for site, spikes in observer.by_site.items()}, neurons, titles),
        "curves.png": curves(saved["progress"]["rows"]),
    }
    if saved["progress"]["alignment"]:
        figures["alignment.png"] = alignment(saved["progress"]["alignment"])
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=150)
        print(folder / name)
    return [folder / name for name in figures]
