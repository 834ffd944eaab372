"""Progress of a model that learns to reason, on a terminal."""

from spikewright.train import log


class ProgressBar(log.ProgressBar):
    """A bar with the running loss and share of answers above all their negatives, and one line per epoch."""

    def epoch(self, row: log.Row) -> None:
        validation = "" if row["validation"] is None else f"  validation {row['validation']:.4f}"
        self._console.print(
            f"epoch {row['epoch']}  loss {row['train_loss']:.4f}{validation}  seconds {row['seconds']:.1f}",
            soft_wrap=True,
            highlight=False,
        )
