"""The data of a training run: read from the section `[data]`, and given out as batches."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from spikewright import data as datasets
from spikewright._util.arguments import shown
from spikewright._util.digest import digest
from spikewright._util.text import is_reference, kind_of
from spikewright.data import Batches, Dataset, Split
from spikewright.errors import ConfigError, nearest
from spikewright.train.arguments import hints, options, tuples
from spikewright.train.components import construct
from spikewright.train.settings import Presentation, TrainSettings, check_keys
from spikewright.train.user_code import referenced


@dataclass(frozen=True)
class Loaders:
    """Loaders of a user, each an iterable of pairs (x, y) that can be iterated several times.

    Attributes:
        train: Batches to train on.
        validation: Batches to choose the best weights by, or `None`.
        test: Batches to evaluate on, or `None`.
        shape: Shape of a sample at one time step, for models that are built by name, or `None`.
        classes: Number of classes, for models that are built by name, or `None`.
    """

    train: Iterable[Any]
    validation: Iterable[Any] | None = None
    test: Iterable[Any] | None = None
    shape: tuple[int, ...] | None = None
    classes: int | None = None

    @classmethod
    def of(cls, name: str, made: Any) -> "Loaders":
        """Return what a user's function made, or what a function of ours was given, as `Loaders`.

        Args:
            name: Name of the function: a reference to a user's file, or ours.
            made: Loaders.

        Raises:
            ConfigError: It made something else than loaders.
        """
        if isinstance(made, Mapping):
            known = [field.name for field in fields(cls)]
            for key in made:
                if key not in known:
                    raise ConfigError(f"{name} returned a dictionary with the key {key!r}. {nearest(str(key), known)}")
            given = dict(made)
        elif isinstance(made, tuple | list):
            named = {1: ["train"], 2: ["train", "test"], 3: ["train", "validation", "test"]}.get(len(made))
            if named is None:
                raise ConfigError(
                    f"{name} returned {len(made)} loaders. Return one, (train, test), (train, validation, test), or a "
                    "dictionary with these names."
                )
            given = dict(zip(named, made, strict=True))
        else:
            given = {"train": made}
        gave = "returned" if is_reference(name) else "was given"
        for part in ("train", "validation", "test"):
            loader = given.get(part)
            if (part == "train" and loader is None) or not (loader is None or _repeats(loader)):
                raise ConfigError(
                    f"{name} {gave} {'no' if loader is None else f'{kind_of(loader)} as'} {part} loader. It "
                    "has to be an iterable of pairs (x, y) that can be iterated in every epoch anew, such as a "
                    "torch.utils.data.DataLoader, or a spikewright.data.Dataset."
                )
        return cls(**given)


OF_IMAGES = ("steps", "batch_size", "workers")
"""Keys of the section `[train]` that say how images become batches of sequences; loaders decide that themselves."""


def check_decides(name: str, data: Dataset | Loaders, given: Collection[str]) -> None:
    """Raise `ConfigError` if a key of the section `[train]` is given that loaders decide.

    Args:
        name: Name of the data, for the message.
        data: `Dataset` or `Loaders`.
        given: Keys of `[train]` that were given.
    """
    keys = [f"train.{key}" for key in OF_IMAGES if key in given]
    if keys and isinstance(data, Loaders):
        raise ConfigError(
            f"{', '.join(keys)} cannot be used with '{name}': it makes loaders, whose batches have the time steps and "
            f"samples that they have, so that nothing would read {'it' if len(keys) == 1 else 'them'}. Leave "
            f"{'the key' if len(keys) == 1 else 'the keys'} out, and decide it in the function."
        )


def _repeats(loader: object) -> bool:
    return hasattr(loader, "__iter__") and not hasattr(loader, "__next__") and not isinstance(loader, str | Tensor)


def load_data(table: Mapping[str, Any]) -> tuple[Presentation, Dataset | Loaders]:
    """Return the presentation and the data of the section `[data]`.

    Raises:
        ConfigError: A key is unknown, or does not apply to these data.
        DatasetMissing: The files of the data set are not there.
        DatasetCorrupt: A file of the data set is damaged.
    """
    name = table["name"]
    if not isinstance(name, str):
        raise ConfigError(f"data.name = {shown(name)} is not a name. {nearest('', datasets.names())}")
    loader = referenced("data", name) if is_reference(name) else datasets.loader(name)
    types = {key: Any for key in options(loader)} | hints(loader)
    given = {key: value for key, value in table.items() if key != "name"}
    check_keys("data", given, Presentation, also={key: types[key] for key in options(loader)})
    own = {field.name for field in fields(Presentation)}
    presentation = Presentation(**{key: value for key, value in given.items() if key in own})
    arguments = {key: tuples(value) for key, value in given.items() if key not in own}
    if is_reference(name):
        made = construct("data", {}, {"name": name, **arguments})
        data = made if isinstance(made, Dataset) else Loaders.of(name, made)
    else:
        data = datasets.load(name, presentation.dir, **arguments)
    _check_applies(name, presentation, isinstance(data, Loaders), is_reference(name))
    if isinstance(data, Loaders):
        return presentation, data
    return presentation, data.limited(presentation.limit_train, presentation.limit_test)


def load_dataset(table: Mapping[str, Any]) -> tuple[Presentation, Dataset]:
    """Return the presentation and the data set of the section `[data]`, for commands that need images with classes.

    Raises:
        ConfigError: As for `load_data`, or the data are loaders.
    """
    presentation, data = load_data(table)
    if isinstance(data, Loaders):
        raise ConfigError(
            f"data.name = '{table['name']}' makes loaders, but this command divides a data set into parts. Return a "
            "spikewright.data.Dataset from the function."
        )
    return presentation, data


def _check_applies(name: str, presentation: Presentation, loaders: bool, own: bool) -> None:
    """Raise `ConfigError` if a key of the presentation is given that nothing would read."""
    unread = {"batch_first"} if not loaders else {f.name for f in fields(Presentation)} - {"batch_first"}
    if own:
        unread |= {"dir"}
    for field in fields(Presentation):
        if field.name in unread and getattr(presentation, field.name) != field.default:
            kind = "loaders, which present their data themselves" if loaders else "a data set with the axes it needs"
            raise ConfigError(
                f"data.{field.name} = {getattr(presentation, field.name)!r} cannot be used with '{name}': it gives "
                f"{kind}. Leave the key out."
            )


def fingerprint(data: Dataset | Loaders) -> dict[str, str]:
    """Return a digest of the contents of each part of a data set; loaders have none."""
    if isinstance(data, Loaders):
        return {}
    parts = {"training data": data.train, "test data": data.test}
    return {part: digest((split.images, split.labels)) for part, split in parts.items()}


def batches_of(
    dataset: Dataset, split: Split, presentation: Presentation, settings: TrainSettings, **options: Any
) -> Batches:
    """Return batches of a split, encoded as the settings say.

    Args:
        dataset: `Dataset` with the statistics of the images.
        split: Samples.
        presentation: `Presentation` with the encoding.
        settings: `TrainSettings` with steps and seed.
        **options: Further arguments of `Batches`.
    """
    given: dict[str, Any] = {"seed": settings.seed, **options}
    return Batches(
        split,
        steps=settings.steps,
        mean=dataset.mean,
        std=dataset.std,
        encoding=presentation.encoding,
        **given,
    )
