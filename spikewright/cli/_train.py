"""`spikewright train`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikewright._util.text import readable
from spikewright.cli._training import trained
from spikewright.cli.common import check_writable, print_table, read_flags, recipe_or_run, stem

if TYPE_CHECKING:
    from spikewright.train import Config


def train(
    recipe: Path | None = None,
    rule: str | None = None,
    model: str | None = None,
    neuron: str | None = None,
    data: str | None = None,
    data_dir: Path | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    certify_every: int | None = None,
    overrides: Sequence[str] | None = None,
    out: Path | None = None,
    json: Path | None = None,
    resume: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train a spiking network and keep the run in a folder.

    Without any argument it trains a small network on the 1,797 handwritten digits that scikit-learn bundles.

    Args:
        recipe: TOML file to start from; flags and --set change what it says.
        rule: Learning rule, `name[:key=value]...`, e.g. ottt, sltt:k=2, ottt:online=true.
        model: Model by name; `spikewright list models` shows them with their arguments. Or path/to/file.py:Name, a
            class or function of your own that returns a module.
        neuron: Neuron by name.
        data: Data set by name. Or path/to/file.py:function, which returns a data set, or loaders: one, (train, test),
            or (train, validation, test).
        data_dir: Folder with the files of the data set.
        steps: Time steps T of a sequence.
        epochs: Passes over the training data.
        batch_size: Samples per batch.
        lr: Learning rate.
        seed: Seed of everything random.
        device: cpu, cuda or auto.
        certify_every: Compare the gradient with that of backpropagation every so many batches: per parameter in
            alignment.csv of the run, and in a plot.
        overrides: Any other key, as section.key=value; may be given several times.
        out: Folder of the run; by default a new one under runs/.
        json: Also write the result to this file.
        resume: Folder of a run to continue, to exactly the weights an uninterrupted run would reach.
        quiet: Show no progress and no table.

    Returns:
        What `result.json` in the folder holds.
    """
    from spikewright.train import build, train_experiment

    check_writable(json)
    recipe = recipe_or_run(recipe, resume, "train", out=out)
    config = read_flags(
        recipe, rule, model, neuron, data, data_dir, overrides, lr,
        steps=steps, epochs=epochs, batch_size=batch_size, seed=seed, device=device, certify_every=certify_every,
    )  # fmt: skip
    return trained(
        lambda ranks, resumed: build(config, ranks, resumed=resumed),
        train_experiment,
        name=_name(config),
        out=out,
        resume=resume,
        json=json,
        quiet=quiet,
        plot=_plot_alignment,
        show=_show,
    )


def _name(config: "Config") -> str:
    parts = (config.rule["name"], stem(config.model["name"]), stem(config.data["name"]), f"seed{config.train.seed}")
    return "-".join(parts)


def _plot_alignment(built: object, result: dict[str, Any], folder: Path) -> None:
    """Draw how gradients compared with those of backpropagation, if they were compared and plots are installed."""
    if not result["alignment"]:
        return
    try:
        from spikewright.plots import alignment
    except ImportError:
        return
    alignment(result["alignment"]).savefig(folder / "alignment.png", dpi=150)


def _show(result: dict[str, Any], folder: Path) -> None:
    rows = [("train loss", f"{result['train_loss']:.4f}"), ("energy per sample", _energy(result["energy"]))]
    if result["mean_firing_rate"] is not None:
        rows.insert(1, ("mean firing rate", f"{result['mean_firing_rate']:.1%} per neuron and step"))
    if result.get("test_accuracy") is not None:
        rows.insert(0, ("test accuracy", f"{result['test_accuracy']:.2%}"))
    rows += [
        ("saved for backward", f"{readable(result['saved_bytes'])} ({result['saved_bytes']:,} bytes)"),
        ("training time", f"{result['seconds']:.1f} s"),
        ("run", str(folder)),
    ]
    if result["alignment"]:
        last = [row for row in result["alignment"] if row["batch"] == result["alignment"][-1]["batch"]]
        weights = [row for row in last if row["site"].endswith("weight")]
        cosines = [f"{row['site']} {'-' if row['cosine'] is None else format(row['cosine'], '.2f')}" for row in weights]
        rows.insert(2, ("cosine to backprop", ", ".join(cosines)))
    rates = (result["energy"] or {}).get("second_phase_rates", {}).values()
    if rates:
        rows.insert(3, ("second phase", f"{sum(rates) / len(rates):.1%} per pair and step"))
    if result["unsolved_batches"]:
        rows.append(("not solved", f"{result['unsolved_batches']} batches; the last: {result['trouble']}"))
    length = [] if result["steps"] is None else [f"T = {result['steps']}"]  # loaders decide it batch by batch
    title = [result["rule"], result["model"], result["data"], *length, f"{result['epochs']} epochs"]
    print_table(" · ".join(title), ("", ""), rows)


def _energy(energy: dict[str, Any] | None) -> str:
    if energy is None:
        return "not known"
    simulation, learning, ratio = f"{energy['simulation_nj']:.4g} nJ simulation", energy["learning_nj"], energy["ratio"]
    if learning is None:
        return f"{simulation}; the rule states no cost of learning (operations at 45 nm)"
    beside = "" if ratio is None else f" = {ratio:.2g} x BPTT"
    return f"{simulation} + {learning:.4g} nJ learning{beside} (operations at 45 nm)"
