"""The settings of training: those of the loop, which all commands share, and those of a training run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar, get_type_hints

from spikewright._util.arguments import shown
from spikewright._util.ranges import LAST_SEED, MOST, check_known, is_within
from spikewright.errors import ConfigError, nearest
from spikewright.train.arguments import check_type, tuples

_AMP = ("off", "float16", "bfloat16")

_MOST_WORKERS = 1024


@dataclass(frozen=True)
class LoopSettings:
    """Settings of every training loop: length, precision, checkpoints and evaluation.

    Attributes:
        epochs: Passes over the training data, from 1 to 10**6. Default: 30.
        seed: Seed of weights, data order and all random numbers, from 0 to 2**63 - 1. Default: 0.
        device: "cpu", "cuda", "cuda:N", or "auto" (CUDA if available). Default: "auto".
        amp: Automatic mixed precision: "off", "float16" (with loss scaling) or "bfloat16". Default: "off".
        clip_norm: Largest norm of the gradient, a finite number > 0. Default: None, no clipping.
        accumulate: Batches per optimizer step, at least 1; the gradient is their mean, weighted by samples, also in a
            last window with fewer batches. Default: 1.
        workers: Processes that prepare batches ahead, from 0 to 1024; 0 prepares them in the training process. Batches
            are the same for every number. Default: 0.
        checkpoint_every: Batches between checkpoints within an epoch, at least 1. Default: None, one checkpoint per
            epoch.
        evaluate_every: Epochs between evaluations, at least 1; the last epoch is always evaluated. Default: 1.
        patience: Evaluations without a new best after which training ends early, at least 1. Default: None, never.
        tensorboard: True also writes TensorBoard events. Default: False.
        weights: Folder or checkpoint of a run whose weights to start from; everything else starts anew.
            Default: None, new weights.
    """

    epochs: int = 30
    seed: int = 0
    device: str = "auto"
    amp: str = "off"
    clip_norm: float | None = None
    accumulate: int = 1
    workers: int = 0
    checkpoint_every: int | None = None
    evaluate_every: int = 1
    patience: int | None = None
    tensorboard: bool = False
    weights: str | None = None

    def __post_init__(self) -> None:
        check_keys("train", asdict(self), type(self))
        self.check()

    def check(self) -> None:
        """Raise `ConfigError` if a value is out of its range."""
        check_counts("train", self, "accumulate", "checkpoint_every", "evaluate_every", "patience")
        check_counts("train", self, "epochs", most=MOST)
        check_counts("train", self, "workers", least=0, most=_MOST_WORKERS)
        if self.clip_norm is not None and not is_within(self.clip_norm, "(0, inf)"):
            raise ConfigError(
                f"train.clip_norm = {shown(self.clip_norm)}: it has to be above 0; none does not clip. Give a finite "
                "number."
            )
        if not 0 <= self.seed <= LAST_SEED:
            raise ConfigError(f"train.seed = {shown(self.seed)}: a seed lies between 0 and 2**63 - 1.")
        check_known("train.amp =", self.amp, _AMP)


@dataclass(frozen=True)
class TrainSettings(LoopSettings):
    """The `[train]` section of a training run with sequences.

    Attributes:
        epochs: Passes over the training data, from 1 to 10**6. Default: 30.
        seed: Seed of weights, data order, augmentation and dropout, from 0 to 2**63 - 1. Default: 0.
        device: "cpu", "cuda", "cuda:N", or "auto" (CUDA if available). Default: "auto".
        amp: Automatic mixed precision: "off", "float16" (with loss scaling) or "bfloat16". Default: "off".
        clip_norm: Largest norm of the gradient, a finite number > 0. Default: None, no clipping.
        accumulate: Batches per optimizer step, at least 1; the gradient is their mean, weighted by samples, also in a
            last window with fewer batches. Default: 1.
        workers: Processes that prepare batches ahead, from 0 to 1024; 0 prepares them in the training process. Batches
            are the same for every number. Default: 0.
        checkpoint_every: Batches between checkpoints within an epoch, at least 1. Default: None, one checkpoint per
            epoch.
        evaluate_every: Epochs between evaluations, at least 1; the last epoch is always evaluated. Default: 1.
        patience: Evaluations without a new best after which training ends early, at least 1. The best is that of
            `best.safetensors`. Default: None, never.
        tensorboard: True also writes TensorBoard events. Default: False.
        weights: Folder or checkpoint of a run whose weights to start from; rule and optimizer start anew.
            Default: None, new weights.
        steps: Time steps per sequence, from 1 to 10**6. Default: 6.
        batch_size: Samples per batch over all processes, at least 1. Default: 64.
        certify_every: Batches between comparisons of the gradient with that of backpropagation, at least 1: through
            layers for rules with another spatial credit assignment, through time for the others. Default: None, no
            comparisons.
        sync_batch_norm: True takes the statistics of batch norm over the batches of all processes, False over the part
            of each. Default: False.
    """

    steps: int = 6
    batch_size: int = 64
    certify_every: int | None = None
    sync_batch_norm: bool = False

    def check(self) -> None:
        super().check()
        check_counts("train", self, "batch_size", "certify_every")
        check_counts("train", self, "steps", most=MOST)


@dataclass(frozen=True)
class Presentation:
    """How data are presented to the network. Other keys of `[data]` are arguments of the data set's loader.

    Attributes:
        dir: Folder with the files of the data set. Default: None, allowed for data sets without files.
        augment: Name of an augmentation: "none", "shift", "crop", "crop-flip" or "ottt-cifar". Default: None, that of
            the data set.
        encoding: Encoding of an image as a sequence: "direct" (constant current), "poisson" or "latency".
            Default: "direct".
        validation: Fraction of the training data held out to choose the best checkpoint, in [0, 1). Default: 0.0, none.
        limit_train: Largest number of training samples, at least 1. Default: None, all.
        limit_test: Largest number of test samples, at least 1. Default: None, all.
        batch_first: True for loaders of a user that yield inputs `[batch, time, ...]`. Default: False.
    """

    dir: str | None = None
    augment: str | None = None
    encoding: str = "direct"
    validation: float = 0.0
    limit_train: int | None = None
    limit_test: int | None = None
    batch_first: bool = False

    def __post_init__(self) -> None:
        check_keys("data", asdict(self), Presentation)
        check_counts("data", self, "limit_train", "limit_test")
        check_setting("data", self, "validation", "[0, 1)")


S = TypeVar("S", bound=LoopSettings)


def settings_of(kind: type[S], table: Mapping[str, Any]) -> S:
    """Return the checked settings of a `[train]` section.

    Raises:
        ConfigError: A key is unknown, or a value has the wrong type or is out of its range.
    """
    check_keys("train", table, kind)
    return kind(**table)


def check_counts(section: str, settings: object, *keys: str, least: int = 1, most: int | None = None) -> None:
    """Raise `ConfigError` unless these settings are in a range, or `None`."""
    for key in keys:
        value = getattr(settings, key)
        if value is not None and value < least:
            raise ConfigError(f"{section}.{key} = {value}: it has to be at least {least}.")
        if value is not None and most is not None and value > most:
            raise ConfigError(f"{section}.{key} = {shown(value)}: it can be at most {most}.")


def check_setting(section: str, settings: object, key: str, interval: str) -> None:
    """Raise `ConfigError` unless a setting is a number in an interval such as "[0, 1)", or `None`."""
    value = getattr(settings, key)
    if value is not None and not is_within(value, interval):
        raise ConfigError(f"{section}.{key} = {shown(value)}: it has to be a number in {interval}.")


def check_keys(section: str, table: Mapping[str, Any], kind: type, also: Mapping[str, Any] | None = None) -> None:
    """Check keys and types of a section against the fields of a dataclass.

    Args:
        section: Name of the section, for messages.
        table: Contents of the section.
        kind: Dataclass of the section.
        also: Type hints of further keys. Default: None, no further keys.

    Raises:
        ConfigError: A key is unknown, or a value has the wrong type.
    """
    known = {**(also or {}), **get_type_hints(kind)}
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"{section}.{key} is not a setting. {nearest(key, known)}")
        check_type(f"{section}.{key}", section, tuples(value), known)
