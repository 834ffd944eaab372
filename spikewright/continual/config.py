"""The configuration of a course: that of a training run, and how tasks come and what is done between them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spikewright.continual.benchmarks import Tree, benchmark
from spikewright.errors import ConfigError
from spikewright.train.components import as_table
from spikewright.train.config import DEFAULTS, Config, assemble, check_counts, check_keys, read_recipe, settled


@dataclass(frozen=True)
class ContinualSettings:
    """What is done at and between tasks.

    Attributes:
        only: Learn only the first so many tasks; `None` learns all.
        later_lr: Learning rate from the second task on; `None` keeps it.
        rehearse_samples: Samples per class and task that are learned again after every task but the first, by the
            rule inside, unprotected; 0 rehearses nothing.
        rehearse_epochs: Passes over them.
        rehearse_lr: Learning rate meanwhile.
        probe_every: Updates between two probes of all tasks begun; `None` makes none inside tasks.
        probe_dense: Probe after every update for so many of them from the start of a task.
        probe_samples: Test samples of each task that a probe uses.
    """

    only: int | None = None
    later_lr: float | None = None
    rehearse_samples: int = 0
    rehearse_epochs: int = 1
    rehearse_lr: float = 0.01
    probe_every: int | None = None
    probe_dense: int = 0
    probe_samples: int = 1000


@dataclass(frozen=True)
class ContinualConfig:
    """A complete configuration.

    Attributes:
        config: As for a training run; its epochs are those of each task.
        scenario: How data become tasks.
        settings: What is done at and between tasks.
    """

    config: Config
    scenario: dict[str, Any]
    settings: ContinualSettings

    def tree(self) -> Tree:
        """Return the configuration as plain nested dictionaries."""
        return {**self.config.tree(), "scenario": self.scenario, "continual": asdict(self.settings)}


def configure_continual(
    recipe: Path | str | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    name: str | None = None,
    **sections: Mapping[str, Any] | str | None,
) -> ContinualConfig:
    """Put a configuration together: a benchmark, then the recipe, then `sections`, then `overrides`.

    Args:
        recipe: A TOML file, or its contents; its key `benchmark` names one.
        overrides: `section.key=value`.
        name: Of a benchmark, in the place of the recipe's.
        **sections: Tables, or names, by section; `None` values in them are left out.

    Raises:
        ConfigError: Something is unknown, or there are no tasks.
    """
    given = read_recipe(Path(recipe)) if isinstance(recipe, str | Path) else dict(recipe or {})
    own = given.pop("benchmark", None)
    rule = as_table("rule", sections.get("rule") or given.get("rule") or "ottt")
    known = benchmark(name or own, rule) if name or own else {}
    defaults = {**DEFAULTS, "scenario": {}, "continual": {}, **known}
    tree = assemble(defaults, given, overrides, **sections)
    scenario, continual = tree.pop("scenario"), tree.pop("continual")
    if "name" not in scenario:
        raise ConfigError(
            "There are no tasks. Name a benchmark, e.g. --benchmark split-digits, or say how data become tasks, e.g. "
            "--set scenario.name=split --set scenario.tasks=5."
        )
    check_keys("continual", continual, ContinualSettings)
    settings = ContinualSettings(**continual)
    check_counts("continual", settings, "only", "rehearse_epochs", "probe_every", "probe_samples")
    return ContinualConfig(settled(tree), scenario, settings)
