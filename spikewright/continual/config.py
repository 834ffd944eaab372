"""The configuration of a continual-learning run: that of a training run, the scenario, and settings between tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spikewright._util.ranges import MOST
from spikewright.continual.benchmarks import Tree, benchmark
from spikewright.errors import ConfigError
from spikewright.train.components import as_table
from spikewright.train.config import DEFAULTS, Config, assemble, read_recipe, settled
from spikewright.train.settings import check_counts, check_keys, check_setting


@dataclass(frozen=True)
class ContinualSettings:
    """The `[continual]` section: tasks, rehearsal and probes.

    Attributes:
        only: Number of tasks to learn, at least 1. Default: None, all of the scenario.
        later_lr: Learning rate from the second task on, a finite number > 0. Default: None, unchanged.
        rehearse_samples: Samples per class and task that are learned again after each task but the first, by the inner
            rule without protection, at least 0. Default: 0, no rehearsal.
        rehearse_epochs: Passes over the rehearsed samples, from 1 to 10**6. Default: 1.
        rehearse_lr: Learning rate of rehearsal, a finite number > 0. Default: 0.01.
        probe_every: Updates between two evaluations of all tasks begun, at least 1. Default: None, no evaluations
            within tasks.
        probe_dense: Number of updates from the start of a task that are each followed by an evaluation, at least 0.
            Default: 0.
        probe_samples: Test samples per task of such an evaluation, at least 1. Default: 1000.
    """

    only: int | None = None
    later_lr: float | None = None
    rehearse_samples: int = 0
    rehearse_epochs: int = 1
    rehearse_lr: float = 0.01
    probe_every: int | None = None
    probe_dense: int = 0
    probe_samples: int = 1000

    def __post_init__(self) -> None:
        check_keys("continual", asdict(self), ContinualSettings)
        check_counts("continual", self, "only", "probe_every", "probe_samples")
        check_counts("continual", self, "rehearse_epochs", most=MOST)
        check_counts("continual", self, "rehearse_samples", "probe_dense", least=0)
        for key in ("later_lr", "rehearse_lr"):
            check_setting("continual", self, key, "(0, inf)")


@dataclass(frozen=True)
class ContinualConfig:
    """A complete configuration of a continual-learning run.

    Attributes:
        config: `Config` of a training run; its epochs are those of each task.
        scenario: `name` ("permuted", "split" or "sequence") and arguments of the scenario.
        settings: `ContinualSettings`.
    """

    config: Config
    scenario: dict[str, Any]
    settings: ContinualSettings

    def tree(self) -> Tree:
        """Return the configuration as nested dictionaries of plain values."""
        return {**self.config.tree(), "scenario": self.scenario, "continual": asdict(self.settings)}


def configure_continual(
    recipe: Path | str | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    name: str | None = None,
    **sections: Mapping[str, Any] | str | None,
) -> ContinualConfig:
    """Return a configuration from, in ascending priority: a benchmark, the recipe, `sections`, `overrides`.

    Args:
        recipe: Path of a TOML file, or its contents as a mapping; its key `benchmark` names a benchmark. Default: None,
            no recipe.
        overrides: Strings `section.key=value`; the value is read as TOML, and as a string if that fails. Default: ().
        name: Name of a benchmark, before that of the recipe: "pmnist", "split-mnist", "split-digits", "split-cifar10",
            "split-cifar100" or "5-datasets". Default: None, that of the recipe, if any.
        **sections: `scenario`, `continual`, or a section of a training run: a mapping of keys, or a component's name.
            Values of `None` are left out.

    Raises:
        ConfigError: A section, key or name is unknown, a value is out of its range, the file cannot be read, or there
            is no scenario.

    >>> from spikewright.continual import configure_continual
    >>> configure_continual(name="split-digits", overrides=["scenario.tasks=2"]).scenario
    {'name': 'split', 'tasks': 2, 'heads': False}
    """
    given = read_recipe(Path(recipe)) if isinstance(recipe, str | Path) else dict(recipe or {})
    own = given.pop("benchmark", None)
    asked = own if name is None else name
    rule = as_table("rule", sections.get("rule") or given.get("rule") or "ottt")
    known = {} if asked is None else benchmark(asked, rule)
    defaults = {**DEFAULTS, "scenario": {}, "continual": {}, **known}
    tree = assemble(defaults, given, overrides, **sections)
    scenario, continual = tree.pop("scenario"), tree.pop("continual")
    if "name" not in scenario:
        raise ConfigError(
            "There are no tasks. Name a benchmark, e.g. --benchmark split-digits, or a scenario, e.g. "
            "--set scenario.name=split --set scenario.tasks=5."
        )
    check_keys("continual", continual, ContinualSettings)
    return ContinualConfig(settled(tree), scenario, ContinualSettings(**continual))
