"""The state of a run as the tree of a checkpoint, and back."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from spikewright.errors import CheckpointError
from spikewright.train.distributed import Ranks, random_states, restore_random_state
from spikewright.train.job import Job, Stage
from spikewright.train.progress import Progress

Tree = dict[str, Any]


def gather(job: Job, stage: Stage | None, progress: Progress, ranks: Ranks) -> Tree:
    """Return everything that an exact continuation needs; without a stage, at the end of one.

    Every process takes part, for its random numbers.
    """
    stateful = {**job.parts(), **(stage.parts() if stage is not None else {})}
    return {
        "config": job.config,
        "data": job.fingerprint,
        "progress": asdict(progress),
        "random": random_states(ranks, job.device),
        "parts": {name: part.state_dict() for name, part in stateful.items()},
    }


def restore(tree: Tree, job: Job, ranks: Ranks, tell: Callable[[str], None]) -> Progress:
    """Restore what lasts for the whole run, and return the progress; settings that changed are noted in it.

    Args:
        tree: Checkpoint.
        job: Job to restore.
        ranks: `Ranks` of this process.
        tell: Function that shows a line.

    Raises:
        CheckpointError: The checkpoint belongs to another configuration, to other data, or to an earlier version.
    """
    try:
        progress = Progress(**tree["progress"])
        states = {name: tree["parts"][name] for name in job.parts()}
        before = len(tree["random"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"The checkpoint does not hold what this version continues from ({error}). It was made by another version "
            "of the library. Start a new run; train.weights takes up its weights."
        ) from error
    changed = _changes(tree["config"], job)
    _check_data(tree["data"], job)
    if before != ranks.world:
        changed["processes"] = before, ranks.world
    for key, (old, new) in changed.items():
        progress.changes.append({"epoch": progress.epoch + 1, "key": key, "from": old, "to": new})
        tell(f"From epoch {progress.epoch + 1} on, {key} is {new!r}; it was {old!r}." + _consequence(key, job))
    if job.lengthens is not None and ".".join(job.lengthens) in changed:
        progress.stopped = False
    for name, part in job.parts().items():
        part.load_state_dict(states[name])
    return progress


def restore_stage(tree: Tree, stage: Stage) -> None:
    """Restore what lasts for a stage: optimizer, schedule, loss scale and accumulated gradients."""
    for name, part in stage.parts().items():
        part.load_state_dict(tree["parts"][name])


def restore_random(states: list[Tree] | None, device: torch.device, ranks: Ranks) -> None:
    """Restore the random state of this process; `None`, or a number of processes that has changed, leaves it."""
    if states is None or len(states) != ranks.world:
        return
    restore_random_state(states, ranks, device)


def _check_data(saved: dict[str, str], job: Job) -> None:
    for name, digest in job.fingerprint.items():
        if saved.get(name, digest) != digest:
            raise CheckpointError(
                f"The {name} are not those that the run began with: their contents have the digest {digest}, but the "
                f"checkpoint says {saved[name]}. A resumed run keeps its data. Give the folder with the same files, or "
                "start a new run."
            )


def _changes(saved: Tree, job: Job) -> dict[str, tuple[Any, Any]]:
    """Return the settings that may change and did, as (old, new) by key.

    Raises:
        CheckpointError: Another setting differs.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for section, table in job.config.items():
        for key, value in table.items():
            before = saved.get(section, {}).get(key)
            if before == value:
                continue
            if (section, key) not in job.free and (section, key) != job.lengthens:
                raise CheckpointError(
                    f"The checkpoint was made with {section}.{key} = {before!r}, but the configuration says {value!r}. "
                    "A resumed run keeps its configuration. Start a new run to change it."
                )
            found[f"{section}.{key}"] = before, value
    return found


def _consequence(key: str, job: Job) -> str:
    if key == "processes":
        return " Random masks differ from those of an uninterrupted run."
    if job.lengthens is None or key != ".".join(job.lengthens) or not job.follows_length:
        return ""
    return (
        " The learning rate follows the schedule of the new length from there on, so the weights are not those of a "
        "run that began with it."
    )
