"""What the commands share: reading flags into a configuration, opening a run, and printing."""

import errno
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikewright._util.files import as_json, is_special, write_atomically
from spikewright._util.reading import MOST_TEXT, read_regular
from spikewright._util.text import kind_of
from spikewright.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from spikewright.train import Config, Experiment


def read_flags(
    recipe: Path | Mapping[str, Any] | None,
    rule: str | None,
    model: str | None,
    neuron: str | None,
    data: str | None,
    data_dir: Path | None,
    overrides: Sequence[str] | None,
    lr: float | None = None,
    **settings: Any,
) -> "Config":
    """Put flags over a recipe; flags that were not given leave it alone.

    Args:
        recipe: A TOML file, a `config.json`, the folder of a run, or the contents of one of these.
        rule: In short form, `name[:key=value]...`.
        model: By name.
        neuron: By name.
        data: By name.
        data_dir: Folder of the data set.
        overrides: `section.key=value` each.
        lr: Learning rate.
        **settings: Entries of the section `train`.
    """
    from spikewright.train import configure
    from spikewright.train.config import rule_table

    table = {} if rule is None else rule_table(rule)
    nothing = [f"rule.{key}=none" for key, value in table.items() if value is None]
    return configure(
        contents(recipe, "train") if isinstance(recipe, Path) else recipe,
        [*nothing, *(overrides or ())],
        rule=table,
        model={"name": model},
        neuron={"name": neuron},
        data={"name": data, "dir": None if data_dir is None else str(data_dir)},
        optimizer={"lr": lr},
        train=settings,
    )


def contents(recipe: Path | None, *makers: str) -> dict[str, Any]:
    """Read a recipe, the stored configuration of a run, or nothing.

    Args:
        recipe: TOML file, `config.json`, or folder of a run.
        *makers: Commands whose runs can be read here.

    Raises:
        CheckpointError: The run is damaged, or one of another command.
        ConfigError: The recipe cannot be read.
    """
    from spikewright.train.config import read_recipe

    if recipe is None:
        return {}
    check_maker(recipe, *makers)
    return stored_config(recipe) if recipe.is_dir() or recipe.suffix == ".json" else read_recipe(recipe)


def stored_config(run: Path) -> dict[str, Any]:
    """Read the configuration a run was made with.

    Raises:
        CheckpointError: There is no run in that folder, or its configuration is damaged.
    """
    path = run / "config.json" if run.is_dir() else run
    try:
        stored = json.loads(read_regular(path, MOST_TEXT).decode())
    except OSError as error:
        raise CheckpointError(f"{run} is not the folder of a run: {path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:  # also of numbers of thousands of digits
        raise CheckpointError(f"The configuration {path} is damaged: {error}.") from error
    if not isinstance(stored, dict):
        raise CheckpointError(f"The configuration {path} is damaged: it holds {kind_of(stored)}, not tables.")
    return stored


_USES = {
    "train": "Use it with evaluate, plot, certify or plan, or continue it: spikewright train --resume {run}.",
    "continual": "Its figures are in {run}/result.json; continue it: spikewright continual --resume {run}.",
    "reason": "Its figures are in {run}/result.json; use it with explain, or continue it: spikewright reason --resume "
    "{run}.",
    "compare": "The folders in it are runs of `spikewright train`: give one of them.",
}
"""What the folder that a command made is for."""


def check_maker(run: Path, *makers: str) -> None:
    """Raise `CheckpointError` if a folder, or a stored configuration, was made by a command not in `makers`."""
    maker = _maker(run)
    if maker is not None and maker not in makers:
        folder = run if run.is_dir() else run.parent
        wanted = " or ".join(f"`spikewright {name}`" for name in makers)
        raise CheckpointError(
            f"{run} was made by `spikewright {maker}`, but a run of {wanted} is needed here. "
            + _USES[maker].format(run=folder)
        )


def _maker(run: Path) -> str | None:
    """Return the command that made a folder or a stored configuration; `None` if it is neither, or damaged."""
    if (run / "compare.json").is_file():
        return "compare"
    path = run / "config.json" if run.is_dir() else run
    try:
        sections = json.loads(read_regular(path, MOST_TEXT).decode()) if path.suffix == ".json" else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(sections, dict) or not {"data", "model"} <= sections.keys():
        return None
    if "scenario" in sections:
        return "continual"
    return "train" if "rule" in sections else "reason"


def recipe_or_run(recipe: Path | None, resume: Path | None, command: str, **others: object) -> Path | None:
    """Return where the configuration is read from: the recipe, or the folder that is to be resumed.

    Args:
        recipe: As given.
        resume: As given.
        command: Command that resumes its own runs.
        **others: Flags that may not stand beside `--resume`, by name.

    Raises:
        ConfigError: One of them does.
        CheckpointError: There is nothing to resume, or it is a run of another command.
    """
    if resume is None:
        return recipe
    if recipe is not None or any(value is not None for value in others.values()):
        *first, last = ["recipe", *(f"--{name}" for name in others)]
        raise ConfigError(
            f"--resume {resume} continues that run in its folder; give no {', '.join(first)} or {last} with it."
        )
    check_maker(resume, command)
    stored_config(resume)
    return resume


def open_run(
    run: Path, checkpoint: str = "last", data_dir: Path | None = None, **settings: Any
) -> "tuple[Experiment, Any]":
    """Build the experiment of a run with its trained weights.

    Args:
        run: Its folder.
        checkpoint: "last" or "best".
        data_dir: Folder of the data set, if it has moved.
        **settings: Entries of the section `train` to change.

    Returns:
        The experiment, and the contents of the checkpoint.

    Raises:
        CheckpointError: There is no sound checkpoint there, or the run is one of another command.
    """
    from spikewright.train import build, configure
    from spikewright.train.checkpoint import load

    check_maker(run, "train")
    saved = load(run / f"{checkpoint}.safetensors")
    data = {"dir": None if data_dir is None else str(data_dir)}
    experiment = build(configure(saved["config"], data=data, train=settings), resumed=True)
    take_weights(experiment, saved)
    return experiment, saved


def take_weights(experiment: "Experiment", saved: Mapping[str, Any]) -> None:
    """Give an experiment the trained weights of a checkpoint."""
    experiment.net.module.load_state_dict(saved["parts"]["model"])


def new_folder(name: str) -> Path:
    """Return a folder under runs/ that is not there yet, with a number if there is one of that name."""
    folder, number = Path("runs") / name, 2
    while folder.exists():
        folder, number = Path("runs") / f"{name}-{number}", number + 1
    return folder


def stem(name: str) -> str:
    """Return a component's name as part of a folder's name: of `path/to/file.py:Name`, the last part."""
    return name.rpartition(":")[2]


def check_positive(**flags: int | None) -> None:
    """Raise `ConfigError` if a number given as a flag is below 1."""
    for name, value in flags.items():
        if value is not None and value < 1:
            raise ConfigError(f"--{name} {value}: at least 1 is needed.")


def check_writable(path: Path | None) -> None:
    """Raise before hours of work if a result could not be written in the end.

    Raises:
        ConfigError: The file cannot be made.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_special(path):  # opening a pipe waits for its reader, and closing it sends that away
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        target = Path(os.path.realpath(path))
        existed = target.exists()
        target.open("a").close()
        if not existed:
            target.unlink()
    except OSError as error:
        raise ConfigError(
            f"--json {path}: the file cannot be written ({error.strerror}). Nothing was run. Give another place."
        ) from error


def write_json(path: Path | None, value: Any) -> None:
    """Write a result for other programs, if asked to; numbers that are not finite become null.

    Raises:
        ConfigError: The file cannot be written.
    """
    if path is None:
        return
    try:
        write_atomically(path, as_json(value))
    except OSError as error:
        raise ConfigError(
            f"--json {path}: the file cannot be written ({error.strerror}). Make room, or give another place."
        ) from error


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], texts: bool = False) -> None:
    """Print a table for people; columns after the first are figures, unless they are `texts`.

    Texts are printed as they are: names may hold brackets and colons, which rich would read as markup and emoji.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title, style="table.title") if title else None, title_justify="left")
    for i, name in enumerate(head):
        justify = "left" if i == 0 or texts else "right"
        table.add_column(Text(name), justify=justify, overflow="fold", no_wrap=i == 0)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
