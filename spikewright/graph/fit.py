"""Train a link-prediction model."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from spikewright._util.digest import digest
from spikewright._util.share import Share
from spikewright.graph._evaluate import evaluate, graph_of
from spikewright.graph.build import Reasoning
from spikewright.graph.data.overlap import overlap
from spikewright.graph.energy import energy_of
from spikewright.graph.negative_sampling import TripleBatch, loss_of
from spikewright.graph.ties import Ties
from spikewright.train import checkpoint, loop
from spikewright.train.diagnose import first_bad_parameter
from spikewright.train.distributed import Ranks, total
from spikewright.train.job import Job, Learned, Source, Stage, Stateful
from spikewright.train.log import Reporter, Row, Silent
from spikewright.train.progress import Progress
from spikewright.train.result import versions
from spikewright.train.schedule import Schedule, Steady
from spikewright.train.source import prepared
from spikewright.train.step import Stepper


def fit(
    reasoning: Reasoning,
    out: Path,
    *,
    resume: bool = False,
    reporter: Reporter = Silent(),  # noqa: B008  (it has no state)
    ranks: Ranks = Ranks(),  # noqa: B008  (a frozen value)
) -> dict[str, Any]:
    """Train a link-prediction model, keep the weights with the best validation metric, and evaluate these on the test
    queries.

    The metric is MRR, or AUROC on a homogeneous graph; without validation queries the last weights are kept. Writes
    `config.json`, `log.csv`, `last.safetensors`, `best.safetensors`, and at the end `result.json`.

    **Checkpointed**: weights, optimizer state, gradients accumulated so far, random state, position and counters.

    Args:
        reasoning: `Reasoning` from `build_reasoning`.
        out: Folder of the run, created if needed.
        resume: True continues from `last.safetensors` to exactly the weights of an uninterrupted run; without a
            checkpoint the run begins anew. Default: False.
        reporter: `spikewright.train.log.Reporter` to call with progress; its accuracy is the fraction of answers scored
            above all their negatives. Default: `Silent()`, no output.
        ranks: `Ranks` of this process; only rank 0 writes. Default: `Ranks()`, a single process.

    Returns:
        The contents of `result.json`: the metrics of `evaluate` on the test queries, `overlap` (how many queries are
        also facts, or about what training never saw), `validation`, `best_epoch`, `energy` (operations per query and
        their energy), `parameters`, `seconds`, `history` (one row per epoch) and `config`.

    Raises:
        NotFinite: The loss, a gradient or a weight is not finite.
        CheckpointError: The folder cannot be written, or there is no valid checkpoint of this configuration to resume
            from.
        ConfigError: The folder already holds a run, and `resume` is False; or another process trains in it.
    """
    return loop.run(_ReasoningJob(reasoning, out, ranks), out, resume=resume, reporter=reporter, ranks=ranks)


class _ReasoningJob(Job):
    def __init__(self, reasoning: Reasoning, out: Path, ranks: Ranks) -> None:
        self.reasoning, self.out, self.ranks = reasoning, out, ranks
        self.config, self.settings, self.device = reasoning.config, reasoning.settings, reasoning.device
        self.graph = graph_of(reasoning.data, reasoning.data.train).to(reasoning.device)
        self.fingerprint = _fingerprint(reasoning)
        self.main = "auroc" if reasoning.data.homogeneous else "mrr"

    def begin(self, progress: Progress, resumed: bool) -> Stage:
        built = self.reasoning
        parameters = dict(built.model.named_parameters())
        self.stepper = Stepper(parameters, built.optimizer, self.settings, self.device, self.ranks)
        limited = _Limited(built.sampler, built.settings.limit_batches)
        source = prepared(limited, self.settings.workers, self.device)
        return Stage("", source, self.stepper, Schedule(Steady(), per_batch=False))

    def learn(self, batch: TripleBatch, progress: Progress) -> Learned:
        settings, pairs, stepper = self.reasoning.settings, self.reasoning.data.homogeneous, self.stepper
        share = Share(len(batch.facts), self.ranks.rank, self.ranks.world)
        asked = (_own(share, part) for part in (batch.sources, batch.relations, batch.candidates))
        edge_weight = batch.hidden(self.graph, settings.between)
        with stepper.autocast():
            scores = self.reasoning.model(self.graph, *asked, edge_weight)
            loss = loss_of(scores, settings.temperature, pairs) * share.weight
        stepper.backward(loss)
        true, wrong = scores.detach().chunk(2) if pairs else (scores[:, :1].detach(), scores[:, 1:].detach())
        own = torch.stack([loss.detach().double(), (true > wrong).all(1).sum().double()]).cpu()
        lost, above = total(own / (1 if share.divided else share.world), self.ranks)
        value = stepper.check("the loss", lost, self._culprit)
        stepper.update(share, self._culprit)
        return Learned(value, share.total, {"accuracy": (float(above), share.total)})

    def parts(self) -> dict[str, Stateful]:
        return {"model": self.reasoning.model}

    def train(self) -> None:
        self.reasoning.model.train()

    def check_finite(self) -> None:
        self.stepper.check_weights(self._culprit)

    def _culprit(self) -> str | None:
        return first_bad_parameter(self.reasoning.model)

    @property
    def blank(self) -> Row:
        return {"validation": None}

    def measure(self, progress: Progress) -> Row:
        return {"validation": self._measured("valid")[self.main]} if self._validates else {}

    def merit(self, row: Row) -> float | None:
        return row["validation"] if self._validates else float(row["epoch"])

    @property
    def _validates(self) -> bool:
        return len(self.reasoning.data.valid.queries) > 0

    def result(self, progress: Progress) -> dict[str, Any]:
        reasoning, settings = self.reasoning, self.settings
        best = checkpoint.load(self.out / "best.safetensors")
        reasoning.model.load_state_dict(best["parts"]["model"])
        return {
            "data": reasoning.data.name,
            "model": reasoning.config["model"]["name"],
            "seed": settings.seed,
            "epochs": len(progress.rows),
            "best_epoch": best["progress"]["epoch"],
            **self._measured("test"),
            "overlap": overlap(reasoning.data),
            "validation": best["progress"]["best"] if self._validates else None,
            "parameters": sum(p.numel() for p in reasoning.model.parameters()),
            "seconds": progress.seconds,
            "versions": versions(),
            "history": progress.rows,
            "config": reasoning.config,
        }

    def extras(self) -> Mapping[str, Callable[[], Any]]:
        return {"energy": lambda: energy_of(self.reasoning.model, self.reasoning.data)}

    def _measured(self, name: str) -> dict[str, float]:
        data, settings = self.reasoning.data, self.reasoning.settings
        split = getattr(data, name)
        inductive = split.entities != data.train.entities
        return evaluate(
            *(self.reasoning.model, data, split),
            batch=settings.evaluate_batch,
            ties=cast(Ties, settings.ties),
            sampled=inductive,
        )


def _own(share: Share, rows: Tensor) -> Tensor:
    """Return the rows of this process; pairs have a linked and an unlinked row for each fact."""
    return share.own(rows.unflatten(0, (-1, share.total)), 1).flatten(0, 1)


def _fingerprint(reasoning: Reasoning) -> dict[str, str]:
    data = reasoning.data
    parts = {"training graph": data.train, "validation graph": data.valid, "test graph": data.test}
    return {name: digest((split.facts, split.queries)) for name, split in parts.items()}


class _Limited:
    """At most so many batches of each epoch of a source."""

    def __init__(self, source: Source, limit: int | None) -> None:
        self._source, self._limit = source, limit

    def __len__(self) -> int:
        return min(len(self._source), self._limit or len(self._source))

    def share(self, epoch: int, index: int, sync_batch_norm: bool = False) -> Share | None:
        return self._source.share(epoch, index, sync_batch_norm)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        return islice(self._source.epoch(epoch, start), max(0, len(self) - start))
