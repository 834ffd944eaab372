"""The training loop: epochs, checkpoints, evaluation and exact resume, for every kind of job."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spikewright._util.files import as_json
from spikewright.errors import NotFinite
from spikewright.train import resuming
from spikewright.train.diagnose import buffers_not_finite
from spikewright.train.distributed import Ranks
from spikewright.train.folder import RunFolder
from spikewright.train.job import Job, Stage
from spikewright.train.log import Reporter, Row, Silent, as_csv, check_events, events
from spikewright.train.processes import of_first
from spikewright.train.progress import Progress
from spikewright.train.result import sealed

Tree = dict[str, Any]


def run(
    job: Job,
    out: Path,
    *,
    resume: bool = False,
    reporter: Reporter = Silent(),  # noqa: B008  (it has no state)
    ranks: Ranks = Ranks(),  # noqa: B008  (a frozen value)
) -> Tree:
    """Train a job to its end, and write checkpoints and results to a folder.

    Writes `config.json`, `log.csv` (one row per epoch), `last.safetensors` (after every epoch, and within one if
    `train.checkpoint_every` is set), `best.safetensors` and `result.json`.

    Args:
        job: What is trained.
        out: Folder of the run, created if needed.
        resume: True continues from `last.safetensors` to exactly the weights of an uninterrupted run; without a
            checkpoint the run begins anew. Default: False.
        reporter: Receiver of progress. Default: `Silent()`.
        ranks: `Ranks` of this process; only rank 0 writes. Default: `Ranks()`, a single process.

    Returns:
        The contents of `result.json`.

    Raises:
        NotFinite: The loss, a gradient or a weight is not finite.
        CheckpointError: The folder cannot be written, or its checkpoint is damaged or of another configuration.
        ConfigError: The folder already holds a run and `resume` is False, or another process trains in it.
    """
    folder: RunFolder | None = None
    check_events(job.settings.tensorboard)

    def open_folder() -> Tree | None:
        nonlocal folder
        folder = RunFolder(out, job.config, resume)
        return folder.last if resume else None

    try:
        return _Loop(job, out, reporter, ranks).run(of_first(open_folder, ranks), folder)
    except Exception:
        if folder is not None:
            folder.abandon()
        raise
    finally:
        if folder is not None:
            folder.close()


class _Loop:
    def __init__(self, job: Job, out: Path, reporter: Reporter, ranks: Ranks) -> None:
        self.job, self.out, self.reporter, self.ranks = job, out, reporter, ranks
        self.progress = Progress()
        self.folder: RunFolder | None = None
        self._began = 0.0
        self._usual = set[str]()

    def run(self, saved: Tree | None, folder: RunFolder | None) -> Tree:
        """Train from a checkpoint, or from the start, and return the result; only a process with a folder writes."""
        self.folder, job = folder, self.job
        if saved is not None:
            self.progress = resuming.restore(saved, job, self.ranks, self.reporter.note)
            self._write_tables()
            if self._is_finished():
                return self._stored() or self._result()
            if folder is not None and self.progress.changes:
                folder.write("config.json", as_json(job.config))
        try:
            with events(self.out / "events" if job.settings.tensorboard and folder is not None else None) as write:
                while self.progress.stage < job.stages:
                    self._stage(saved, write)
                    saved = None
        finally:
            self.reporter.stop()
        return self._result()

    def _is_finished(self) -> bool:
        progress, job = self.progress, self.job
        ended = progress.stopped or progress.epoch >= job.settings.epochs
        return progress.stage >= job.stages or (job.stages == 1 and ended)

    def _stored(self) -> Tree | None:
        """Return the result of a run that was finished before."""
        stored = self.folder.result if self.folder is not None else None
        if stored is not None and not self.job.extras().keys() <= stored.keys():
            stored = None  # the process was killed while it computed the extras
        if stored is not None and stored != sealed(stored, self.progress.rows):
            stored = None  # damaged, or of another run
        if stored is not None:
            self.reporter.note(
                f"The run in {self.out} is finished: {len(self.progress.rows)} epochs. Nothing was trained; its result "
                "is shown again. Give more epochs to go on."
            )
        return of_first(lambda: stored, self.ranks)

    def _stage(self, saved: Tree | None, write: Callable[[Row], object]) -> None:
        job, progress = self.job, self.progress
        pending = saved if saved is not None and (progress.epoch or progress.batch) else None
        stage = job.begin(progress, pending is not None)
        if pending is not None:
            resuming.restore_stage(pending, stage)
        self.reporter.start(stage.name, stage.batches, job.settings.epochs, progress.epoch, progress.batch)
        self._usual = set(buffers_not_finite(job.parts()))
        random = None if saved is None else saved["random"]
        while progress.epoch < job.settings.epochs and not progress.stopped:
            self._epoch(stage, random, write)
            random = None
        resuming.restore_random(random, job.device, self.ranks)
        job.end(progress, self.reporter.note)
        progress.close_stage()
        if job.stages > 1:
            self._save("last")

    def _epoch(self, stage: Stage, random: Any, write: Callable[[Row], object]) -> None:
        progress, every = self.progress, self.job.settings.checkpoint_every
        self.job.train()
        batches = stage.source.epoch(progress.epoch, progress.batch)
        resuming.restore_random(random, self.job.device, self.ranks)
        self._began = time.perf_counter()
        try:
            for batch in batches:
                self._learn(stage, batch)
                if every and progress.batch % every == 0 and progress.batch != stage.batches:
                    self._clock()
                    self._save("last", stage)
            if stage.stepper.flush():
                stage.schedule.after_batch()
            self.job.check_finite()
            self._check_buffers()
        except NotFinite as error:
            raise NotFinite(
                f"Training stopped in epoch {progress.epoch + 1}, batch {progress.batch + 1}: {error} Earlier "
                f"checkpoints in {self.out} are untouched."
            ) from error
        self._clock()
        self._close(stage, write)

    def _check_buffers(self) -> None:
        """Raise `NotFinite` if a buffer was finite before training, and is not any more."""
        if bad := [name for name in buffers_not_finite(self.job.parts()) if name not in self._usual]:
            raise NotFinite(
                f"The buffer '{bad[0]}' is not finite: what it was computed from overflows, and evaluation would use "
                "it. Scale down the input, or what the rule adds to it."
            )

    def _learn(self, stage: Stage, batch: Any) -> None:
        progress = self.progress
        learned = self.job.learn(batch, progress)
        progress.add(learned.loss, learned.weight, learned.sums)
        if learned.trouble is not None:
            progress.unsolved += 1
            progress.trouble = learned.trouble
        if stage.stepper.end_batch():
            stage.schedule.after_batch()
        self.reporter.batch(progress.epoch, progress.batch - 1, progress.means)

    def _close(self, stage: Stage, write: Callable[[Row], object]) -> None:
        """Evaluate, judge and save the weights at the end of an epoch."""
        job, progress, settings = self.job, self.progress, self.job.settings
        job.agree()
        means, done = progress.means, progress.epoch + 1
        due = done == settings.epochs or done % settings.evaluate_every == 0
        row: Row = {"epoch": done, **{f"train_{name}": mean for name, mean in means.items()}, **job.blank}
        row["seconds"] = progress.seconds
        row |= job.measure(progress) if due else {}
        better = progress.judge(of_first(lambda: job.merit(row), self.ranks), settings.patience)
        if progress.stopped and not due:
            row |= job.measure(progress)
        stage.schedule.after_epoch(means["loss"])
        progress.close_epoch(row)
        if better:
            self._save("best", stage)
        self._save("last", stage)
        self._write_tables()
        if self.folder is not None:
            write(row)
        self.reporter.epoch(row)

    def _write_tables(self) -> None:
        tables = {"log.csv": self.progress.rows, "alignment.csv": self.progress.alignment}
        for name, rows in tables.items():
            if rows and self.folder is not None:
                self.folder.write(name, as_csv(rows))

    def _result(self) -> Tree:
        """Write the result, then the figures that are not worth losing it for."""
        job, progress = self.job, self.progress
        result = {
            **job.result(progress),
            "stopped_early": bool(progress.early or progress.stopped),
            "changes": progress.changes,
        }
        if self.folder is not None:
            self.folder.write("result.json", as_json(sealed(result, progress.rows)))
        for name, make in job.extras().items():
            try:
                result[name] = make()
            except Exception as error:  # a figure that fails must not cost a finished run
                result[name] = None
                self.reporter.note(f"{name} could not be computed: {type(error).__name__}: {error}")
        whole = as_json(sealed(result, progress.rows))
        if self.folder is not None and job.extras():
            self.folder.write("result.json", whole)
        return json.loads(whole)

    def _save(self, name: str, stage: Stage | None = None) -> None:
        self.job.agree()
        tree = resuming.gather(self.job, stage, self.progress, self.ranks)
        if self.folder is not None:
            self.folder.save(name, tree)

    def _clock(self) -> None:
        now = time.perf_counter()
        self.progress.seconds += now - self._began
        self._began = now
