"""`spikewright plan`."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from spikewright._util.text import size_in_bytes
from spikewright.cli._overrides import check_read
from spikewright.cli.common import check_positive, check_writable, read_flags, write_json
from spikewright.errors import ConfigError

_READ = ("rule", "model", "neuron", "data", "loss.penalty", "train.steps", "train.batch_size")


def plan(
    recipe: Path | None = None,
    rule: str | None = None,
    model: str | None = None,
    neuron: str | None = None,
    data: str | None = None,
    data_dir: Path | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    shape: str | None = None,
    classes: int | None = None,
    budget: str | None = None,
    measure: str | None = None,
    overrides: Sequence[str] | None = None,
    json: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure the memory of a training step, by number of time steps.

    Args:
        recipe: TOML file, or the folder of a run.
        rule: Learning rule, `name[:key=value]...`.
        model: Model by name.
        neuron: Neuron by name.
        data: Data set by name, for the shape of a sample.
        data_dir: Folder with the files of the data set.
        steps: Time steps of a sequence.
        batch_size: Samples per batch.
        shape: Shape of a sample as C,H,W; then no data set is needed.
        classes: Number of outputs, with --shape; by default 10.
        budget: Memory for the step and its input, e.g. 8GB; the plan says how many steps fit.
        measure: Lengths that are run, separated by commas, e.g. 4,1024; by default three short ones.
        overrides: Any other key, as section.key=value; may be given several times.
        json: Also write the plan to this file.
        quiet: Print nothing.

    Returns:
        `rows` with steps, saved_bytes, working_bytes and input_bytes, `bytes_per_step`, `budget` and `largest`.
    """
    from spikewright.reports import plan as plan_memory
    from spikewright.train._build import build_network, build_rule, data_shape
    from spikewright.train.components import LOSSES, construct
    from spikewright.train.settings import Presentation

    check_writable(json)
    check_positive(classes=classes)
    config = read_flags(recipe, rule, model, neuron, data, data_dir, overrides, steps=steps, batch_size=batch_size)
    does = "measures memory with inputs of the shape of a sample"
    check_read(
        "plan", does, overrides, _READ, [f"data.{field.name}" for field in fields(Presentation) if field.name != "dir"]
    )
    if shape is None:
        _check_unused("without --shape: the data say how many classes there are", classes=classes)
        sample, outputs = data_shape(config)
    else:
        _check_unused("beside --shape, which stands in for the data", data=data, data_dir=data_dir)
        check_read("plan --shape", does, overrides, [part for part in _READ if part != "data"])
        sample, outputs = _shape(shape), 10 if classes is None else classes
    net = build_network(config, sample, outputs)
    size = (config.train.steps, config.train.batch_size, *sample)
    limit = None if budget is None else _bytes(budget)
    lengths = None if measure is None else _lengths(measure)
    loss = construct("loss", LOSSES, config.loss)
    found = plan_memory(net, build_rule(config), size, budget=limit, measure=lengths, loss=loss)
    result = asdict(found)
    write_json(json, result)
    if not quiet:
        print(found.table())
    return result


def _check_unused(why: str, **flags: object) -> None:
    for name, value in flags.items():
        if value is not None:
            raise ConfigError(f"--{name.replace('_', '-')} {value} has no effect {why}. Leave it out.")


def _shape(text: str) -> tuple[int, int, int]:
    numbers = text.split(",")
    if len(numbers) != 3 or not all(n.strip().isdigit() for n in numbers):
        raise ConfigError(f"--shape {text} cannot be read. Write channels, height, width: --shape 3,32,32.")
    c, h, w = map(int, numbers)
    return c, h, w


def _lengths(text: str) -> list[int]:
    numbers = text.split(",")
    if not all(n.strip().isdigit() for n in numbers):
        raise ConfigError(f"--measure {text} cannot be read. Write numbers of steps: --measure 4,1024.")
    return [int(n) for n in numbers]


def _bytes(text: str) -> int:
    size = size_in_bytes(f"{text}B" if text.strip().isdigit() else text)
    if size is None:
        raise ConfigError(f"--budget {text} cannot be read. Write a number and a unit, e.g. 8GB or 512MiB.")
    return size
