"""`spikewright continual`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikewright.cli._training import trained
from spikewright.cli.common import check_writable, contents, print_table, recipe_or_run

if TYPE_CHECKING:
    from spikewright.continual.config import ContinualConfig


def continual(
    recipe: Path | None = None,
    benchmark: str | None = None,
    rule: str | None = None,
    tasks: int | None = None,
    data_dir: Path | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    probe_every: int | None = None,
    overrides: Sequence[str] | None = None,
    out: Path | None = None,
    json: Path | None = None,
    resume: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Learn one task after another, and measure what is forgotten.

    For instance: spikewright continual --benchmark split-digits --rule hlop:ottt

    Args:
        recipe: TOML file to start from; flags and --set change what it says.
        benchmark: Tasks, network and hyper-parameters by name: pmnist, split-mnist, split-digits, split-cifar10,
            split-cifar100 or 5-datasets.
        rule: What keeps tasks from being forgotten, and the rule inside it, e.g. hlop:dsr, gpm:bptt, ewc:ottt,
            replay:sltt, lwf:dsr; naive:dsr, or dsr alone, does nothing about it.
        tasks: Number of tasks.
        data_dir: Folder with the files of the data set.
        steps: Time steps T of a sequence.
        epochs: Passes over the training data of each task.
        batch_size: Samples per batch.
        lr: Learning rate.
        seed: Seed of everything random but the tasks, whose seed is scenario.seed.
        device: cpu, cuda or auto.
        probe_every: Measure all tasks begun, on a sample, every so many updates: for the stability gap.
        overrides: Any other key, as section.key=value; may be given several times.
        out: Folder of the run; by default a new one under runs/.
        json: Also write the result to this file.
        resume: Folder of a run to continue, to exactly the weights an uninterrupted one would reach.
        quiet: Show no progress and no table.

    Returns:
        What `result.json` in the folder holds.
    """
    from spikewright.continual import build_continual, configure_continual, learn
    from spikewright.train.config import rule_table

    check_writable(json)
    recipe = recipe_or_run(recipe, resume, "continual", benchmark=benchmark, out=out)
    config = configure_continual(
        contents(recipe, "continual", "train"),
        overrides or (),
        benchmark,
        rule=None if rule is None else rule_table(rule),
        scenario={"tasks": tasks},
        data={"dir": None if data_dir is None else str(data_dir)},
        optimizer={"lr": lr},
        continual={"probe_every": probe_every},
        train={"steps": steps, "epochs": epochs, "batch_size": batch_size, "seed": seed, "device": device},
    )
    return trained(
        lambda ranks, resumed: build_continual(config, ranks, resumed=resumed),
        learn,
        name=_name(config, benchmark),
        out=out,
        resume=resume,
        json=json,
        quiet=quiet,
        plot=_plot,
        show=_show,
    )


def _name(config: "ContinualConfig", benchmark: str | None) -> str:
    rule = config.config.rule
    inside = rule.get("rule", {})
    names = [
        benchmark or config.scenario["name"],
        rule["name"],
        inside if isinstance(inside, str) else inside.get("name"),
    ]
    return "-".join([*(n for n in names if n), f"seed{config.config.train.seed}"])


def _plot(built: object, result: dict[str, Any], folder: Path) -> None:
    """Draw what is to be seen, if plots are installed."""
    try:
        from spikewright.plots import accuracies, accuracy_matrix, stability_gap
    except ImportError:
        return
    accuracy_matrix(result["accuracy_matrix"]).savefig(folder / "matrix.png", dpi=150)
    accuracies(result).savefig(folder / "accuracies.png", dpi=150)
    if result["trajectory"] is not None and result["tasks"] > 1:
        stability_gap(result).savefig(folder / "stability_gap.png", dpi=150)


def _show(result: dict[str, Any], folder: Path) -> None:
    matrix = result["accuracy_matrix"]
    head = ("after task", *(str(i + 1) for i in range(len(matrix))))
    print_table(
        f"test accuracy, %, by task · {result['rule']} · {result['scenario']}",
        head,
        [(str(k + 1), *(f"{100 * a:.1f}" for a in row)) for k, row in enumerate(matrix)],
    )
    rows = [
        ("average accuracy (ACC)", f"{result['acc']:.2%}"),
        ("backward transfer (BWT)", _points(result["bwt"])),
        ("forgetting", _points(result["forgetting"])),
        ("training time", f"{result['seconds']:.1f} s"),
        ("run", str(folder)),
    ]
    if result["monitor"] is not None:
        found = result["monitor"]
        rows[3:3] = [("lowest while learning (min-ACC)", _share(found["min_acc"])), ("WC-ACC", _share(found["wc_acc"]))]
    print_table("", ("", ""), rows)


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.2f} points"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"
