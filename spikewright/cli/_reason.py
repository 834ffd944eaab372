"""`spikewright reason`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikewright.cli._training import trained
from spikewright.cli.common import check_writable, contents, print_table, recipe_or_run

if TYPE_CHECKING:
    from spikewright.graph.build import Reasoning
    from spikewright.graph.config import ReasoningConfig


def reason(
    recipe: Path | None = None,
    data: str | None = None,
    model: str | None = None,
    data_dir: Path | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    device: str | None = None,
    overrides: Sequence[str] | None = None,
    out: Path | None = None,
    json: Path | None = None,
    resume: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Learn to complete a graph, and rank the answers to its test questions.

    For instance: spikewright reason --data umls --model grsnn; without a name it takes the graph that is made up.

    Args:
        recipe: TOML file to start from; flags and --set change what it says.
        data: Graph by name: family (made up, needs no files), nations, umls, kinships (these come with
            spikewright[graph]), wn18rr, fb15k-237, fb237_v1 ... WN18RR_v4 (inductive), cora, citeseer, or folder (any
            with train.txt, valid.txt and test.txt).
        model: grsnn, grsnn+ (weights by relation, connections of nodes to themselves, layer normalisation) or nbfnet
            (no spikes).
        data_dir: Folder with the files of the graph.
        steps: Time steps T of a spiking model.
        epochs: Passes over the training facts.
        batch_size: Facts per batch.
        lr: Learning rate.
        seed: Seed of everything random.
        device: cpu, cuda or auto.
        overrides: Any other key, as section.key=value; may be given several times.
        out: Folder of the run; by default a new one under runs/.
        json: Also write the result to this file.
        resume: Folder of a run to continue, to exactly the weights an uninterrupted run would reach.
        quiet: Show no progress and no table.

    Returns:
        What `result.json` in the folder holds.
    """
    from spikewright.graph.build import build_reasoning
    from spikewright.graph.config import configure_reasoning
    from spikewright.graph.fit import fit

    check_writable(json)
    recipe = recipe_or_run(recipe, resume, "reason", out=out)
    config = configure_reasoning(
        contents(recipe, "reason"),
        overrides or (),
        data={"name": data, "dir": None if data_dir is None else str(data_dir)},
        model={"name": model, "steps": steps},
        optimizer={"lr": lr},
        train={"epochs": epochs, "batch_size": batch_size, "seed": seed, "device": device},
    )
    return trained(
        lambda ranks, resumed: build_reasoning(config, resumed=resumed),
        fit,
        name=_name(config),
        out=out,
        resume=resume,
        json=json,
        quiet=quiet,
        plot=_plot,
        show=_show,
    )


def _name(config: "ReasoningConfig") -> str:
    return f"{config.model['name']}-{config.data['name']}-seed{config.train.seed}"


def _plot(reasoning: "Reasoning", result: dict[str, Any], folder: Path) -> None:
    """Draw what is to be seen, if plots are installed."""
    from spikewright.graph import GRSNN, graph_of

    try:
        from spikewright.plots import arrivals, learning
    except ImportError:
        return
    data, model = reasoning.data, reasoning.model
    learning(result["history"], "AUROC" if data.homogeneous else "MRR").savefig(folder / "learning.png", dpi=150)
    if isinstance(model, GRSNN):
        head, relation, tail = data.test.queries[:1].to(reasoning.device).T
        spikes = model.spikes(graph_of(data, data.test).to(reasoning.device), head, relation)
        arrivals(spikes[:, :, 0].cpu(), int(tail)).savefig(folder / "arrivals.png", dpi=150)


def _show(result: dict[str, Any], folder: Path) -> None:
    energy = result["energy"]
    title = f"{result['model']} · {result['data']} · {result['epochs']} epochs, the best was {result['best_epoch']}"
    rows = list[tuple[str, str]]()
    if energy is not None:
        each = f"{energy['nanojoules']:.4g} nJ, NBFNet {energy['nbfnet_nanojoules']:.4g} nJ"
        rows.append(("energy of a question", each))
        if "firing_rate" in energy:
            rows.append(("mean firing rate", f"{energy['firing_rate']:.2%} per neuron and step"))
    rows += [("parameters", f"{result['parameters']:,}"), ("training time", f"{result['seconds']:.1f} s")]
    rows += [(f"{name.replace('_', ' ')} (triples)", str(n)) for name, n in result["overlap"].items() if n]
    rows.append(("run", str(folder)))
    if "auroc" in result:
        figures = [("AUROC", f"{result['auroc']:.4f}"), ("average precision", f"{result['average_precision']:.4f}")]
        print_table(title, ("", ""), [*figures, *rows])
        return
    ties = result["config"]["train"]["ties"]
    other = "expected" if ties == "pessimistic" else "pessimistic"
    note = {"pessimistic": " (published tables of NBFNet)", "realistic": " (PyKEEN)"}
    head = [f"ties {rule}{note.get(rule, '')}" for rule in (ties, other)]
    print_table(
        title, ("", *head), [(name, *_both(result, key, other)) for key, name in _RANKING.items() if key in result]
    )
    print_table("", ("", ""), rows)


_RANKING = {
    "mrr": "MRR",
    "mr": "mean rank",
    **{f"hits_at_{k}": f"Hits@{k}" for k in (1, 3, 10)},
    "hits_at_10_of_50": "Hits@10 of 50: 49 rivals",
    "hits_at_10_against_50": "Hits@10 against 50 rivals (NBFNet)",
}
"""Names of the metrics in the table, by key of the result."""


def _both(result: dict[str, Any], key: str, other: str) -> tuple[str, str]:
    """Return a metric by the tie rule of the run and by another one."""
    values = result[key], result[f"{key}_{other}"]
    first, second = (f"{value:.{1 if key == 'mr' else 4}f}" for value in values)
    return first, second
