"""The training loop of link prediction."""

import json
import math
import time
from pathlib import Path
from typing import Any

import torch

from spikewright.errors import CheckpointError, NotFinite
from spikewright.graph._evaluate import evaluate, graph_of
from spikewright.graph.build import Reasoning
from spikewright.graph.data.overlap import overlap
from spikewright.graph.energy import energy_of
from spikewright.graph.negative_sampling import TripleBatch, loss_of
from spikewright.train import checkpoint
from spikewright.train.log import Reporter, Silent, Table


def fit(reasoning: Reasoning, out: Path, *, resume: bool = False, reporter: Reporter = Silent()) -> dict[str, Any]:  # noqa: B008
    """Train a link-prediction model, keep the weights with the best validation metric, and evaluate these on the test
    queries.

    The metric is MRR, or AUROC on a homogeneous graph; without validation queries the last weights are kept. Writes
    `config.json`, after every epoch `log.csv`, `last.safetensors` and `best.safetensors`, and at the end `result.json`.

    **Checkpointed**: weights, optimizer state, gradients accumulated so far, position and counters.

    Args:
        reasoning: `Reasoning` from `build_reasoning`.
        out: Folder of the run, created if needed.
        resume: True continues from `last.safetensors` to exactly the weights of an uninterrupted run. Default: False.
        reporter: `spikewright.train.log.Reporter` to call with progress; its accuracy is the fraction of answers scored
            above all their negatives. Default: `Silent()`, no output.

    Returns:
        The contents of `result.json`: the metrics of `evaluate` on the test queries, `overlap` (how many queries are
        also facts, or about what training never saw), `validation`, `best_epoch`, `energy` (operations per query and
        their energy), `parameters`, `seconds`, `history` (one row per epoch) and `config`.

    Raises:
        NotFinite: The loss is not finite.
        CheckpointError: The folder cannot be written, or there is no valid checkpoint of this configuration to resume
            from.
        ConfigError: The folder already holds a run, and `resume` is False.
    """
    learner = _Learner(reasoning, out, reporter)
    if resume:
        learner.restore(checkpoint.load(out / "last.safetensors"))
    else:
        checkpoint.begin(out, reasoning.config)
    try:
        learner.learn()
    finally:
        reporter.stop()
    result = learner.result()
    checkpoint.write_atomically(out / "result.json", json.dumps(result, indent=2).encode())
    return result


class _Learner:
    def __init__(self, reasoning: Reasoning, out: Path, reporter: Reporter) -> None:
        self.reasoning, self.out, self.reporter = reasoning, out, reporter
        self.settings = reasoning.config["train"]
        self.graph = graph_of(reasoning.data, reasoning.data.train).to(reasoning.device)
        self.batches = min(len(reasoning.sampler), self.settings["limit_batches"] or len(reasoning.sampler))
        self.main = "auroc" if reasoning.data.homogeneous else "mrr"
        self.table = Table(out / "log.csv")
        self.epoch = self.batch = 0
        self.lost = self.right = self.seconds = 0.0
        self.seen, self.best = 0, -1.0

    def learn(self) -> None:
        """Train to the last epoch."""
        epochs = self.settings["epochs"]
        self.reporter.start(self.batches, epochs, self.epoch, self.batch)
        while self.epoch < epochs:
            began = time.perf_counter()
            for triples in self.reasoning.sampler.epoch(self.epoch, self.batch):
                if self.batch == self.batches:
                    break
                self._learn_from(triples)
                self.reporter.batch(self.epoch, self.batch - 1, self.lost / self.seen, self.right / self.seen)
                every = self.settings["checkpoint_every"]
                if every and self.batch % every == 0 and self.batch < self.batches:
                    now = time.perf_counter()
                    self.seconds, began = self.seconds + now - began, now
                    self._save("last")
            self.seconds += time.perf_counter() - began
            self._end_epoch()

    def _learn_from(self, triples: TripleBatch) -> None:
        model, optimizer, settings = self.reasoning.model.train(), self.reasoning.optimizer, self.settings
        pairs, every = self.reasoning.data.homogeneous, settings["accumulate"]
        edge_weight = triples.hidden(self.graph, settings["between"])
        scores = model(self.graph, triples.sources, triples.relations, triples.candidates, edge_weight)
        loss = loss_of(scores, settings["temperature"], pairs)
        if not math.isfinite(value := loss.item()):
            raise NotFinite(
                f"The loss is {value} in epoch {self.epoch + 1}, batch {self.batch + 1}. Lower optimizer.lr, or set "
                f"train.clip_norm. The last sound weights are in {self.out}."
            )
        (loss / every).backward()
        self.batch += 1
        if self.batch % every == 0 or self.batch == self.batches:
            if settings["clip_norm"] is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), settings["clip_norm"])
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            true, wrong = scores.chunk(2) if pairs else (scores[:, :1], scores[:, 1:])
            above = true > wrong
            self.lost, self.right = self.lost + value * len(above), self.right + float(above.all(1).sum())
            self.seen += len(above)

    def _end_epoch(self) -> None:
        row: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "train_loss": self.lost / self.seen,
            "train_accuracy": self.right / self.seen,
            "seconds": self.seconds - sum(r["seconds"] for r in self.table.rows),
            "validation": None,
        }
        self.epoch, self.batch, self.lost, self.right, self.seen = self.epoch + 1, 0, 0.0, 0.0, 0
        there, last = len(self.reasoning.data.valid.queries) > 0, self.epoch == self.settings["epochs"]
        improved = last and not there  # without validation queries the last weights are kept
        if there and (self.epoch % self.settings["evaluate_every"] == 0 or last):
            row["validation"] = found = self._measured("valid")[self.main]
            improved, self.best = found > self.best, max(found, self.best)
        self.table.add(row)
        if improved:
            self._save("best")
        self._save("last")
        self.reporter.epoch(row)

    def _measured(self, name: str) -> dict[str, float]:
        data, settings = self.reasoning.data, self.settings
        split = getattr(data, name)
        inductive = split.entities != data.train.entities
        return evaluate(
            *(self.reasoning.model, data, split),
            batch=settings["evaluate_batch"],
            ties=settings["ties"],
            sampled=inductive,
        )

    def result(self) -> dict[str, Any]:
        """Return the contents of `result.json`."""
        reasoning, settings = self.reasoning, self.settings
        best = checkpoint.load(self.out / "best.safetensors")
        reasoning.model.load_state_dict(best["parts"]["model"])
        return {
            "data": reasoning.data.name,
            "model": reasoning.config["model"]["name"],
            "seed": settings["seed"],
            "epochs": settings["epochs"],
            "best_epoch": best["epoch"],
            **self._measured("test"),
            "overlap": overlap(reasoning.data),
            "validation": None if self.best < 0 else self.best,
            "parameters": sum(p.numel() for p in reasoning.model.parameters()),
            "energy": energy_of(reasoning.model, reasoning.data),
            "seconds": self.seconds,
            "history": self.table.rows,
            "config": reasoning.config,
        }

    def restore(self, tree: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        if tree.get("config") != self.reasoning.config:
            raise CheckpointError(
                f"The checkpoint in {self.out} belongs to another run. A resumed run keeps its configuration. Give the "
                "recipe and flags that it began with, or none."
            )
        self.epoch, self.batch, self.seen = tree["epoch"], tree["batch"], tree["asked"]
        self.lost, self.right, self.seconds, self.best = tree["lost"], tree["right"], tree["seconds"], tree["best"]
        self.table.rows = list(tree["rows"])
        self.reasoning.model.load_state_dict(tree["parts"]["model"])
        self.reasoning.optimizer.load_state_dict(tree["parts"]["optimizer"])
        for name, parameter in self.reasoning.model.named_parameters():
            gradient = tree["parts"]["gradients"].get(name)
            parameter.grad = None if gradient is None else gradient.to(parameter.device)

    def _save(self, name: str) -> None:
        model = self.reasoning.model
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        tree = {
            **{"config": self.reasoning.config, "epoch": self.epoch, "batch": self.batch, "asked": self.seen},
            **{"lost": self.lost, "right": self.right, "seconds": self.seconds, "best": self.best},
            "rows": self.table.rows,
            "parts": {
                "model": model.state_dict(),
                "optimizer": self.reasoning.optimizer.state_dict(),
                "gradients": gradients,
            },
        }
        checkpoint.save(self.out / f"{name}.safetensors", tree)
