"""Training with a learning rule: what runs from a configuration and a user's own loop have in common."""

from contextlib import nullcontext
from functools import partial
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map_only

from spikewright._util.randomness import keyed_generator
from spikewright._util.share import Share
from spikewright.losses import Loss
from spikewright.metrics.memory import SavedBytes
from spikewright.network import Network
from spikewright.reports.gradient_check import certify
from spikewright.rules import Rule, reference_rule
from spikewright.train._build import Experiment
from spikewright.train._evaluate import Measures, mean_rate, means_over
from spikewright.train.batch import BatchLearner
from spikewright.train.diagnose import first_bad_parameter
from spikewright.train.distributed import Ranks, check_alike, copy_buffers
from spikewright.train.job import Job, Learned, Source, Stage, Stateful
from spikewright.train.log import Row
from spikewright.train.progress import Progress
from spikewright.train.settings import TrainSettings
from spikewright.train.source import batch_size
from spikewright.train.step import Stepper


class RuleJob(Job):
    """Training with a rule: batches are learned with what the first of them keeps measured, and gradients compared.

    Args:
        settings: `TrainSettings`.
        net: `Network`.
        rule: `Rule`.
        ranks: `Ranks` of this process.

    Attributes:
        loss: `Loss` of the stage.
        measures: Measures that the stage adds to the loss, by name.
        learner: `BatchLearner` of the stage.
        source: Batches that the stage learns.
        evaluated: Batches that the stage is evaluated on, "validation" and "test", by name.
        rates: Firing rate of each neuron layer at the last evaluation, spikes per neuron and step.
        samples: Number of samples of each part at the last evaluation.
    """

    def __init__(self, settings: TrainSettings, net: Network, rule: Rule, ranks: Ranks) -> None:
        self.settings = self._train = settings
        self.net, self.rule, self.ranks = net, rule, ranks
        check_alike(net, ranks)
        self.loss: Loss
        self.measures: Measures
        self.learner: BatchLearner
        self.source: Source
        self.evaluated: dict[str, Source] = {}
        self.rates: dict[str, float] = {}
        self.samples: dict[str, int] = {}

    def learn(self, batch: Any, progress: Progress) -> Learned:
        x, y = batch
        share = self.source.share(progress.epoch, progress.batch, self._train.sync_batch_norm)
        if share is None:
            share = self._share(batch, progress)
            x = tree_map_only(Tensor, partial(share.own, dim=1), x)
            y = tree_map_only(Tensor, partial(share.own, dim=self.loss.batch_axis), y)
        if not progress.batches:
            self.net.wiring(x)  # so that its probe does not count as part of the step
        self._compare(x, y, progress)
        with SavedBytes() if not progress.batches else nullcontext() as saved:
            learned = self.learner.sharing(share)(x, y)
        if isinstance(saved, SavedBytes):
            progress.saved_bytes = saved.peak
        return learned

    def _share(self, batch: Any, progress: Progress) -> Share:
        """Return the part of a whole batch that this process takes."""
        draws = keyed_generator(self.settings.seed, "draws", progress.epoch, progress.batch)
        joint = self._train.sync_batch_norm
        return Share(batch_size(batch), self.ranks.rank, self.ranks.world, draws, joint)

    def parts(self) -> dict[str, Stateful]:
        return {"model": self.net.module, "rule": self.rule}

    def train(self) -> None:
        self.net.train()

    def agree(self) -> None:
        copy_buffers(self.net, self.ranks)
        copy_buffers(self.rule, self.ranks)

    def check_finite(self) -> None:
        self.learner.stepper.check_weights(lambda: first_bad_parameter(self.net.module))

    @property
    def blank(self) -> Row:
        row = {f"{part}_{name}": None for part in self.evaluated for name in (*self.measures, "loss")}
        return {**row, "firing_rate": None} if row else {}

    def measure(self, progress: Progress) -> Row:
        row: Row = {}
        for part, batches in self.evaluated.items():
            means, self.rates, self.samples[part] = means_over(
                self.net, batches, self.loss, self.measures, self.settings.seed
            )
            row |= {f"{part}_{name}": mean for name, mean in means.items()}
            row["firing_rate"] = mean_rate(self.rates)
        return row

    def merit(self, row: Row) -> float | None:
        if "validation" not in self.evaluated:
            return -row["train_loss"]
        if "validation_accuracy" in row:
            return row["validation_accuracy"]
        return None if row["validation_loss"] is None else -row["validation_loss"]

    def stage(self, name: str, built: Experiment) -> Stage:
        """Return a stage that trains as an experiment says."""
        parameters = {**dict(self.net.named_parameters()), **dict(self.rule.named_parameters(prefix="rule"))}
        stepper = Stepper(parameters, built.optimizer, self.settings, self.device, self.ranks)
        self.source, self.loss, self.measures = built.training, built.loss, built.measures
        self.learner = BatchLearner(self.net, self.rule, self.loss, stepper, self.measures, self.ranks)
        parts = {"validation": built.validating, "test": built.testing}
        self.evaluated = {part: batches for part, batches in parts.items() if batches is not None}
        return Stage(name, self.source, stepper, built.schedule)

    def _compare(self, x: Any, y: Any, progress: Progress) -> None:
        """Compare the gradient with that of backpropagation, if a comparison is due."""
        every = self._train.certify_every
        if every is None or progress.batches % every or not self.ranks.first:
            return
        made = certify(self.net, self.rule, x, y, self.loss, reference_rule(self.rule))
        progress.alignment += [
            {"batch": progress.batches, "site": row.site, "cosine": row.cosine, "norm_ratio": row.norm_ratio}
            for row in made.rows
        ]
