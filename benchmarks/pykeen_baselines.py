"""ComplEx and RotatE, trained by PyKEEN, on small knowledge graphs: what reasoning over paths is compared with.

All entities are scored for every question and trained by cross-entropy, ComplEx with a penalty on cubes of absolute
values, until the validation MRR stops to rise.  Of a few settings the one with the best validation MRR for seed 0 is
taken.  Test scores of this model are ranked by this package as well, which has to find the same MRR.

Trouillon et al., Complex Embeddings for Simple Link Prediction, ICML 2016; Lacroix et al., Canonical Tensor
Decomposition for Knowledge Base Completion, ICML 2018 (the penalty); Sun et al., RotatE: Knowledge Graph Embedding by
Relational Rotation in Complex Space, ICLR 2019; Ali et al., PyKEEN 1.0, JMLR 2021.

python benchmarks/pykeen_baselines.py [--data umls,kinships] [--models complex,rotate] [--seeds 3] [--json FILE]
"""

import argparse
import gc
import json
import logging
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spikewright.graph.data import load_graph
from spikewright.graph.known import KnownAnswers
from spikewright.graph.negative_sampling import both_ways
from spikewright.graph.ranking import RankingEvaluator
from spikewright.train.result import versions

if TYPE_CHECKING:
    from pykeen.pipeline import PipelineResult

METRICS = {"mrr": "inverse_harmonic_mean_rank", "hits_at_1": "hits_at_1", "hits_at_10": "hits_at_10"}
XAVIER = {"entity_initializer": "xavier_uniform", "relation_initializer": "xavier_uniform"}
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "complex": [
        {
            **{"lr": 0.02, "epochs": 60, "batch": 256},
            "model": {"embedding_dim": 128, "regularizer": "powersum", **XAVIER}
            | {"regularizer_kwargs": {"weight": weight, "p": 3.0, "normalize": False}},
        }
        for weight in (0.003, 0.01)
    ],
    "rotate": [{"lr": 0.05, "epochs": 40, "batch": 256, "model": {"embedding_dim": 64}}],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="umls,kinships")
    parser.add_argument("--models", default="complex,rotate")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write settings and every seed's figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    gc.freeze()  # PyKEEN collects garbage in every epoch; what is imported stays
    report: dict[str, Any] = {"versions": versions() | {"pykeen": version("pykeen")}, "runs": []}
    print(json.dumps(report["versions"]))
    print(f"{'data':9} {'model':8} {'seed':>4} {'epoch':>5} {'valid MRR':>9} {'MRR':>7} {'Hits@1':>7} {'Hits@10':>7}")
    for data in options.data.split(","):
        for model in options.models.split(","):
            tried = [(s, *train(data, model, s, 0)) for s in SETTINGS[model]]
            setting, *first = max(tried, key=lambda t: t[1]["valid_mrr"])
            rest = [train(data, model, setting, seed) for seed in range(1, options.seeds)]
            check(data, first[1])
            found = [first[0], *(figures for figures, _ in rest)]
            means = {name: statistics.mean(f[name] for f in found) for name in ("valid_mrr", *METRICS)}
            print(f"{data:9} {model:8} mean       " + " ".join(f"{means[name]:7.4f}" for name in means), flush=True)
            table = {"data": data, "model": model, "setting": setting, "means": means, "seeds": found}
            report["runs"].append(table | {"tried": [{"setting": s, **figures} for s, figures, _ in tried]})
            if options.json is not None:
                options.json.write_text(json.dumps(report, indent=1))


def train(data: str, model: str, setting: dict[str, Any], seed: int) -> "tuple[dict[str, float], PipelineResult]":
    """Return what was measured with the weights of the best validation MRR, and what PyKEEN has to tell."""
    from pykeen.pipeline import pipeline

    began = time.perf_counter()
    result = pipeline(
        dataset=data,
        dataset_kwargs={"create_inverse_triples": True},
        model=model,
        model_kwargs=setting["model"],
        loss="crossentropy",
        optimizer="adam",
        optimizer_kwargs={"lr": setting["lr"]},
        training_loop="lcwa",
        training_kwargs={
            **{"num_epochs": setting["epochs"], "batch_size": setting["batch"]},
            **{"use_tqdm": False, "use_tqdm_batch": False},
        },
        stopper="early",
        stopper_kwargs={
            **{"frequency": 5, "patience": 3, "relative_delta": 0.0, "evaluation_batch_size": 256},
            "metric": f"both.realistic.{METRICS['mrr']}",
        },
        evaluation_kwargs={"batch_size": 256, "use_tqdm": False},
        random_seed=seed,
        device="cpu",
    )
    figures = {name: result.get_metric(f"both.realistic.{metric}") for name, metric in METRICS.items()}
    stopper: Any = result.stopper
    figures |= {"valid_mrr": stopper.best_metric, "epoch": stopper.best_epoch, "seed": seed}
    figures["seconds"] = time.perf_counter() - began
    shown = " ".join(f"{figures[name]:7.4f}" for name in METRICS)
    print(f"{data:9} {model:8} {seed:4} {figures['epoch']:5} {figures['valid_mrr']:9.4f} {shown}", flush=True)
    return figures, result


def check(data: str, result: "PipelineResult") -> None:
    """Assert that this package reads the same triples, and finds the same ranks in the scores of PyKEEN's model."""
    from pykeen.datasets import get_dataset

    theirs: Any = get_dataset(dataset=data)
    ours = load_graph(data)
    entities, relations = ours.test.entities, ours.relations
    for factory, split in ((theirs.training, ours.train), (theirs.validation, ours.valid), (theirs.testing, ours.test)):
        named = {(entities[h], relations[r], entities[t]) for h, r, t in split.queries.tolist()}
        assert named == set(map(tuple, factory.label_triples(factory.mapped_triples)))
    entity = torch.tensor([theirs.entity_to_id[name] for name in entities])
    relation = torch.tensor([theirs.relation_to_id[name] for name in relations])
    known = KnownAnswers(ours.test.known, len(entities), len(relations))
    evaluator = RankingEvaluator(ties="realistic")
    for facts in ours.test.queries.split(256):
        tails, heads = scores(result.model, entity[facts[:, 0]], relation[facts[:, 1]], entity[facts[:, 2]])
        sources, kinds, answers = both_ways(facts, len(relations))
        evaluator.add(torch.cat([tails, heads])[:, entity], answers, known.mask(sources, kinds))
    found, expected = evaluator.result()["mrr"], result.get_metric(f"both.realistic.{METRICS['mrr']}")
    print(f"MRR of the same scores: {found:.8f} here, {expected:.8f} by PyKEEN")
    assert abs(found - expected) < 1e-6


@torch.no_grad()
def scores(model: Any, heads: Tensor, relations: Tensor, tails: Tensor) -> tuple[Tensor, Tensor]:
    """Return PyKEEN's scores of all entities as tails, and as heads, `[Q, N]` each, in its order."""
    model.eval()
    asked = model.predict_t(torch.stack([heads, relations], 1)), model.predict_h(torch.stack([relations, tails], 1))
    return asked[0], asked[1]


if __name__ == "__main__":
    main()
