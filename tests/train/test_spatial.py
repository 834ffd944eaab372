"""Training by rules that send errors to layers in their own way: what they learn themselves is part of the run."""

import csv
from pathlib import Path

import pytest
import torch

from spikewright.errors import ConfigError
from spikewright.train import train_experiment
from spikewright.train.checkpoint import load
from spikewright.train.distributed import Ranks, average_buffers
from tests.processes import both
from tests.train.support import experiment, same, trained, weights

LOCAL = ("rule.name=opzo", "rule.local=true")


def test_readouts_of_layers_are_trained_with_the_network(tmp_path: Path) -> None:
    begun = {name: p.clone() for name, p in experiment(*LOCAL).rule.named_parameters()}
    assert begun
    trained(tmp_path / "run", *LOCAL)
    ended = load(tmp_path / "run" / "last.safetensors")["parts"]["rule"]
    assert all(not torch.equal(ended[name], value) for name, value in begun.items())


@pytest.mark.parametrize("rule", [("rule.name=opzo",), LOCAL, ("rule.name=ottt", "rule.spatial=dkp")])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(rule: tuple[str, ...], tmp_path: Path) -> None:
    steady = (*rule, "schedule.name=constant")
    trained(tmp_path / "whole", *steady)
    trained(tmp_path / "parts", *steady, "train.epochs=1")
    train_experiment(experiment(*steady), tmp_path / "parts", resume=True)
    whole, parts = (load(tmp_path / name / "last.safetensors")["parts"] for name in ("whole", "parts"))
    assert same(parts["model"], whole["model"]) and same(parts["rule"], whole["rule"])
    assert any(value.any() for name, value in whole["rule"].items() if "matrices" in name)


def test_gradients_are_compared_while_the_network_learns(tmp_path: Path) -> None:
    found = trained(tmp_path / "run", "rule.name=opzo", "train.certify_every=3")
    assert sorted({row["batch"] for row in found["alignment"]}) == [0, 3, 6]
    sites = {row["site"] for row in found["alignment"]}
    assert sites == set(load(tmp_path / "run" / "last.safetensors")["parts"]["model"])
    with (tmp_path / "run" / "alignment.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["cosine"]) for row in rows] == [row["cosine"] for row in found["alignment"]]
    readout = [row["cosine"] for row in found["alignment"] if row["site"] == "readout.weight"]
    assert all(cosine > 0.9 for cosine in readout)  # its error is exact but for the noise
    assert same(weights(tmp_path / "run"), weights_without_comparison(tmp_path))


def weights_without_comparison(tmp_path: Path) -> dict[str, torch.Tensor]:
    trained(tmp_path / "plain", "rule.name=opzo")
    return weights(tmp_path / "plain")


def test_the_comparison_is_with_the_same_rule_of_time(tmp_path: Path) -> None:
    found = trained(tmp_path / "run", "rule.name=sltt", "rule.spatial=dfa", "train.certify_every=4")
    readout = [row for row in found["alignment"] if row["site"] == "readout.weight"]
    hidden = [row for row in found["alignment"] if row["site"] == "features.1.weight"]
    assert all(row["cosine"] == pytest.approx(1) and row["norm_ratio"] == pytest.approx(1) for row in readout)
    assert all(abs(row["cosine"]) < 0.999 for row in hidden)


def test_training_may_start_from_the_weights_of_an_earlier_run(tmp_path: Path) -> None:
    trained(tmp_path / "first")
    built = experiment(f"train.weights={tmp_path / 'first'}", "neuron.noise=0.15", "rule.name=opzo")
    assert same(dict(built.net.module.state_dict()), weights(tmp_path / "first"))
    with pytest.raises(ConfigError, match=r"(?s)train\.weights = .*do not fit this network.*Use the same model"):
        experiment(f"train.weights={tmp_path / 'first'}", "model.hidden=[8]")


def test_what_learning_costs_is_in_the_result(tmp_path: Path) -> None:
    costs = {
        rule: trained(tmp_path / rule.replace(":", "-"), f"rule.name={rule}", "train.epochs=1")["energy"]
        for rule in ("ottt", "opzo")
    }
    built = experiment()
    readout = built.net.module.get_parameter("readout.weight")
    assert costs["ottt"]["feedback_parameters"] == readout.numel()
    assert costs["opzo"]["feedback_parameters"] == readout.numel()  # one layer: as many neurons times outputs
    difference = costs["opzo"]["learning_operations"] - costs["ottt"]["learning_operations"]
    assert difference == 3 * (2 * readout.numel() - readout.numel())  # 3 steps: teach and use M, against W^T once


def averaged(index: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    rule = experiment("rule.name=opzo").rule
    for number, buffer in enumerate(b for b in rule.buffers() if b.is_floating_point()):
        buffer.fill_(number + index)
    count = next(b for b in rule.buffers() if not b.is_floating_point())
    count.fill_(7 + index)
    average_buffers(rule, Ranks(index, 2))
    return [b for b in rule.buffers() if b.is_floating_point()], count


def test_what_a_rule_has_learned_is_averaged_over_processes() -> None:
    for index, (buffers, count) in enumerate(both(averaged)):
        assert buffers and all((b == number + 0.5).all() for number, b in enumerate(buffers))
        assert count == 7 + index
