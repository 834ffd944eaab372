"""Training by rules that learn from rates: what they could not solve is told, and a run resumes bit for bit."""

from pathlib import Path

import pytest

from spikewright.train import train_experiment
from tests.train.support import experiment, same, trained, weights

FEEDBACK = ["model.name=mlp_f", "model.norm=none", "neuron.name=if", "neuron.rest=-1.0"]


@pytest.mark.parametrize("rule", ["dsr", "ide", "spide"])
@pytest.mark.long
def test_learns_and_counts_its_operations(tmp_path: Path, rule: str) -> None:
    net = ["neuron.name=dsrif"] if rule == "dsr" else FEEDBACK
    result = trained(tmp_path / "run", *net, "optimizer.lr=0.02", "train.epochs=6", rule=rule)
    first, *_, last = result["history"]
    assert last["train_loss"] < first["train_loss"]
    assert result["config"]["loss"]["name"] == "on_rate"
    assert result["energy"]["ratio"] < 1
    assert bool(result["energy"]["second_phase_rates"]) == (rule == "spide")


@pytest.mark.long
def test_says_what_it_could_not_solve(tmp_path: Path) -> None:
    rule = {"name": "spide", "loss_scale": 1000.0}
    result = trained(tmp_path / "run", *FEEDBACK, "train.epochs=1", rule=rule)
    assert result["unsolved_batches"] == 4
    assert "of the pairs at" in result["trouble"] and "Lower loss_scale" in result["trouble"]
    assert trained(tmp_path / "other", *FEEDBACK, "train.epochs=1", rule="ide")["unsolved_batches"] == 0


@pytest.mark.parametrize("rule", ["dsr", "ide", "spide"])
@pytest.mark.long
def test_a_run_with_trained_thresholds_and_masks_resumes_bit_for_bit(tmp_path: Path, rule: str) -> None:
    net = ["neuron.name=dsrif", "schedule.name=constant", *(["model.name=mlp_f"] if rule != "dsr" else [])]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    trained(whole, *net, "train.epochs=2", rule=rule)
    trained(halves, *net, "train.epochs=1", rule=rule)
    train_experiment(experiment(*net, "train.epochs=2", rule=rule), halves, resume=True)
    assert any("threshold" in name for name in weights(whole))
    assert same(weights(halves), weights(whole))
