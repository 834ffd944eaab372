"""`spikewright certify`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spikewright.cli._overrides import check_read
from spikewright.cli.common import check_writable, read_flags, take_weights, write_json

_READ = (
    *("rule", "model", "neuron", "data", "loss"),
    *("train.steps", "train.batch_size", "train.seed", "train.device", "train.workers", "train.weights"),
)


def certify(
    recipe: Path | None = None,
    rule: str | None = None,
    model: str | None = None,
    neuron: str | None = None,
    data: str | None = None,
    data_dir: Path | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    seed: int | None = None,
    double: bool = False,
    overrides: Sequence[str] | None = None,
    json: Path | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Compare a rule's gradient with that of backpropagation through time, parameter by parameter.

    Args:
        recipe: TOML file, or the folder of a run: then its trained weights are used.
        rule: Learning rule, `name[:key=value]...`.
        model: Model by name.
        neuron: Neuron by name.
        data: Data set by name; one batch of it is used.
        data_dir: Folder with the files of the data set.
        steps: Time steps of a sequence.
        batch_size: Samples in the batch.
        seed: Seed of weights and batch.
        double: Compute in float64, where claims hold to rounding.
        overrides: Any other key, as section.key=value; may be given several times.
        json: Also write the gradient check to this file.
        quiet: Print nothing.

    Returns:
        `ok`, and `rows` with site, cosine, norm_ratio, relative_error and exact per parameter.
    """
    from spikewright._util.real_numbers import in_double
    from spikewright.reports import certify as certify_gradient
    from spikewright.train import build
    from spikewright.train.checkpoint import load

    check_writable(json)
    config = read_flags(
        recipe, rule, model, neuron, data, data_dir, overrides, steps=steps, batch_size=batch_size, seed=seed
    )
    check_read("certify", "takes the gradient of one training batch", overrides, _READ, ("data.limit_test",))
    experiment = build(config)
    if recipe is not None and recipe.is_dir():
        saved = load(recipe / "last.safetensors")
        take_weights(experiment, saved)
        if rule is None:
            experiment.rule.load_state_dict(saved["parts"]["rule"])
    x, y = next(experiment.training.epoch(0))
    if double:
        in_double(experiment.net)
        in_double(experiment.rule)
        x = x.double()
    certificate = certify_gradient(experiment.net, experiment.rule, x, y, experiment.loss)
    result = {"ok": certificate.ok, **asdict(certificate)}
    write_json(json, result)
    if not quiet:
        print(certificate.table())
    return result
