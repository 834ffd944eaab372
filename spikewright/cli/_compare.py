"""`spikewright compare`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikewright._util.files import as_json, write_atomically
from spikewright._util.text import readable
from spikewright.cli._training import attempt, reporter_of
from spikewright.cli.common import check_writable, contents, print_table, read_flags, stem, stored_config, write_json
from spikewright.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from spikewright.train import Config
    from spikewright.train.distributed import Ranks
    from spikewright.train.log import Reporter


def compare(
    recipe: Path | None = None,
    rules: str = "bptt,sltt,ottt",
    model: str | None = None,
    neuron: str | None = None,
    data: str | None = None,
    data_dir: Path | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seeds: int = 3,
    device: str | None = None,
    overrides: Sequence[str] | None = None,
    out: Path | None = None,
    json: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train the same network with several rules and seeds, and put them side by side.

    Every run is kept in a folder of its own under --out; runs that are finished there are not repeated, and one that
    was interrupted goes on where it stopped.

    Args:
        recipe: TOML file to start from; its rule is left aside.
        rules: Rules separated by commas, each `name[:key=value]...`, e.g. bptt,sltt,sltt:k=2,ottt:online=true.
        model: Model by name.
        neuron: Neuron by name.
        data: Data set by name.
        data_dir: Folder with the files of the data set.
        steps: Time steps T of a sequence.
        epochs: Passes over the training data.
        batch_size: Samples per batch.
        lr: Learning rate.
        seeds: Number of seeds per rule, counted from 0.
        device: cpu, cuda or auto.
        overrides: Any other key, as section.key=value; may be given several times.
        out: Folder of the comparison; by default runs/compare-MODEL-DATA.
        json: Also write the result to this file.
        quiet: Print nothing.

    Returns:
        By rule: mean and standard deviation of test accuracy and seconds, saved bytes, the accuracies by seed, and what
        learning costs: feedback weights that carry errors back, operations per sample, and spikes times fan-out
        of the forward pass.
    """
    from spikewright.train.processes import joined

    check_writable(json)
    names = [name.strip() for name in rules.split(",") if name.strip()]
    if not names or seeds < 1:
        raise ConfigError(f"compare needs at least one rule and one seed, but got --rules '{rules}' --seeds {seeds}.")
    common = {section: table for section, table in contents(recipe, "train").items() if section != "rule"}
    configs = {
        (name, seed): read_flags(
            common, name, model, neuron, data, data_dir, overrides, lr,
            steps=steps, epochs=epochs, batch_size=batch_size, seed=seed, device=device,
        )
        for name in names
        for seed in range(seeds)
    }  # fmt: skip
    first = configs[names[0], 0]
    folder = out or Path("runs") / f"compare-{stem(first.model['name'])}-{stem(first.data['name'])}"
    with joined() as ranks:
        quiet = quiet or not ranks.first
        results = _run_all(configs, folder, quiet, ranks)
        summary = {name: _summary(runs) for name, runs in results.items()}
    if ranks.first:
        _write(folder / "compare.json", summary)
        write_json(json, summary)
        attempt("draw plots", folder / "compare.json", lambda: _plot(summary, folder / "compare.png"))
    if not quiet:
        title = _title(first, results[names[0]][0]["steps"], seeds)
        attempt("print the result", folder / "compare.json", lambda: _show(summary, title, folder))
    return summary


def _write(path: Path, summary: dict[str, Any]) -> None:
    try:
        write_atomically(path, as_json(summary))
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written: {error.strerror}. All runs are kept beside it. Make room, and "
            "give the same command again: it trains none of them anew."
        ) from error


def _run_all(
    configs: Mapping[tuple[str, int], "Config"], folder: Path, quiet: bool, ranks: "Ranks"
) -> dict[str, list[dict[str, Any]]]:
    """Return the results of all runs, by rule; runs that are finished are not repeated."""
    results: dict[str, list[dict[str, Any]]] = {}
    for (name, seed), config in configs.items():
        reporter = reporter_of(quiet)
        reporter.note(f"{name}, seed {seed}")
        run = folder / f"{name.replace(':', '-').replace('=', '-')}-seed{seed}"
        results.setdefault(name, []).append(_finish(config, run, reporter, ranks))
    return results


def _finish(config: "Config", folder: Path, reporter: "Reporter", ranks: "Ranks") -> dict[str, Any]:
    """Train, or continue, or just read what is there if it is the same experiment and done."""
    from spikewright.train import build, train_experiment
    from spikewright.train.processes import of_first

    there, done = of_first(lambda: [(folder / f"{name}.json").exists() for name in ("config", "result")], ranks)
    experiment = build(config, ranks, resumed=there)
    if done and stored_config(folder) != experiment.config:
        raise ConfigError(
            f"{folder} holds a finished run with another configuration. Choose another --out, or remove that folder."
        )
    return train_experiment(experiment, folder, resume=there, reporter=reporter, ranks=ranks)


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    from statistics import mean, pstdev

    accuracies = [run["test_accuracy"] for run in runs]
    seconds = [run["seconds"] for run in runs]
    return {
        "test_accuracy": mean(accuracies),
        "test_accuracy_std": pstdev(accuracies),
        "test_accuracies": accuracies,
        "seconds": mean(seconds),
        "seconds_std": pstdev(seconds),
        "saved_bytes": max(run["saved_bytes"] for run in runs),
        "firing_rate": mean(run["mean_firing_rate"] for run in runs),
        **{key: _mean([run["energy"][key] for run in runs]) for key in _COST},
    }


def _mean(values: list[float | None]) -> float | None:
    stated = [value for value in values if value is not None]
    return sum(stated) / len(stated) if stated else None


_COST = ("feedback_parameters", "learning_operations", "spike_operations")


def _plot(summary: dict[str, Any], path: Path) -> None:
    try:
        from spikewright.plots import comparison
    except ImportError:
        return
    comparison(summary).savefig(path, dpi=150)


def _title(config: "Config", steps: int | None, seeds: int) -> str:
    length = "" if steps is None else f"T = {steps}, "  # loaders decide it batch by batch
    return (
        f"{config.model['name']} on {config.data['name']}, {length}{config.train.epochs} epochs, "
        f"mean ± standard deviation of {seeds} seeds"
    )


def _show(summary: dict[str, Any], title: str, folder: Path) -> None:
    rows = [
        (
            name,
            f"{entry['test_accuracy']:.2%} ± {entry['test_accuracy_std']:.2%}",
            f"{entry['seconds']:.1f} ± {entry['seconds_std']:.1f}",
            readable(entry["saved_bytes"]),
            f"{entry['firing_rate']:.1%}",
        )
        for name, entry in summary.items()
    ]
    print_table(title, ("rule", "test accuracy", "seconds", "saved for backward", "firing rate"), rows)
    costs = [
        (name, *("not stated" if entry[key] is None else f"{entry[key]:.3g}" for key in _COST))
        for name, entry in summary.items()
    ]
    head = ("rule", "feedback weights", "operations to learn", "spikes x fan-out")
    print_table("what learning costs, operations per sample", head, costs)
    plot = folder / "compare.png"
    print(
        f"written to {folder}" + (f", plot in {plot}" if plot.exists() else "; install spikewright[plots] for a plot")
    )
