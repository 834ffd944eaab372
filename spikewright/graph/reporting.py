"""Progress bar of a link-prediction run."""

from spikewright.train import log


class ProgressBar(log.ProgressBar):
    """Terminal progress bar with running loss and fraction of answers above all their negatives; one line per epoch."""

    def epoch(self, row: log.Row) -> None:
        validation = "" if row["validation"] is None else f"  validation {row['validation']:.4f}"
        self._console.print(
            f"epoch {row['epoch']}  loss {row['train_loss']:.4f}{validation}  seconds {row['seconds']:.1f}",
            soft_wrap=True,
            highlight=False,
        )
