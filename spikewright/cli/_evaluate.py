"""`spikewright evaluate`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from spikewright.cli.common import check_writable, open_run, print_table, write_json
from spikewright.errors import ConfigError


def evaluate(
    run: Path,
    checkpoint: Literal["last", "best"] = "last",
    data_dir: Path | None = None,
    steps: int | None = None,
    device: str | None = None,
    json: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure a trained network on the test data.

    Args:
        run: Folder of the run.
        checkpoint: Which weights: of the last epoch, or the best by validation (by training loss without).
        data_dir: Folder of the data set, if it has moved.
        steps: Run this many time steps instead of those it was trained with.
        device: cpu, cuda or auto.
        json: Also write the result to this file.
        quiet: Print nothing.

    Returns:
        accuracy, loss, rates by site, and the number of samples.
    """
    from spikewright.train import evaluate as measure

    check_writable(json)
    experiment, _ = open_run(run, checkpoint, data_dir, steps=steps, device=device)
    batches = experiment.testing
    if batches is None:
        raise ConfigError(f"The data of {run} have no test loader. Return one: (train, test).")
    score = measure(experiment.net, batches, experiment.loss)
    result = {
        "run": str(run),
        "checkpoint": checkpoint,
        "steps": experiment.config["train"].get("steps"),
        **asdict(score),
    }
    write_json(json, result)
    if not quiet:
        rows = [("test accuracy", f"{score.accuracy:.2%}"), ("test loss", f"{score.loss:.4f}")]
        rows += [(f"firing rate of {site}", f"{rate:.1%}") for site, rate in score.rates.items()]
        print_table(f"{run}, {checkpoint} weights, {score.samples} samples", ("", ""), rows)
    return result
