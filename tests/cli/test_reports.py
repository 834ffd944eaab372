"""What the commands say about a network, a rule, or the library: certificates, plans and lists."""

import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from spikewright import certify, cli
from spikewright.rules import OTTT
from spikewright.train import build, configure
from spikewright.train.components import MODELS, OPTIMIZERS, RULES
from spikewright.train.schedule import SCHEDULES
from tests.train.support import weights


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_certifying_uses_trained_weights(says: Any, run: Path, tmp_path: Path) -> None:
    status, out, _ = says("certify", run, "--double", "--json", tmp_path / "trained.json")
    assert status == 0 and "rows claim equality with BPTT: " in out and out.splitlines()[-1].startswith("worst row: ")
    built = build(configure(read(run / "config.json")))
    built.net.module.load_state_dict(weights(run))
    x, y = next(built.training.epoch(0))
    by_hand = certify(built.net.double(), built.rule, x.double(), y, built.loss)
    assert read(tmp_path / "trained.json") == {"ok": True, **asdict(by_hand)}


def test_certifying_a_recipe_uses_fresh_weights(says: Any, run: Path, tmp_path: Path) -> None:
    for recipe in (run, run / "config.json"):
        says("certify", recipe, "--double", "--json", tmp_path / f"{recipe.stem}.json")
    assert read(tmp_path / "run.json")["rows"] != read(tmp_path / "config.json")["rows"]


def test_certifying_another_rule(says: Any, run: Path, tmp_path: Path) -> None:
    says("certify", run, "--rule", "sltt", "--batch-size", 5, "--json", tmp_path / "sltt.json")
    rows = {row["site"]: row for row in read(tmp_path / "sltt.json")["rows"]}
    assert rows["readout.weight"]["exact"] and not rows["features.1.weight"]["exact"]
    assert math.isclose(rows["readout.weight"]["cosine"], 1, abs_tol=1e-6)
    assert rows["features.1.weight"]["cosine"] < 0.9999


def test_a_broken_promise_is_shouted(says: Any, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RULES["sltt"], "exact", lambda *arguments: True)
    out = says("certify", run, "--rule", "sltt")[1]
    assert "exact, MISMATCH" in out and re.search(r"rows claim equality with BPTT: \d+ match, \d+ MISMATCH", out)
    assert re.search(r"^worst row: .*\(exact, MISMATCH\)$", out.splitlines()[-1])


def test_a_rule_that_claims_nothing_is_not_said_to_hold(says: Any) -> None:
    status, out, _ = says("certify", "--rule", "spide", "--data", "synthetic", "--model", "mlp_f", "--batch-size", 4)
    assert status == 0 and "rows claims equality with BPTT, so that nothing but distances was measured" in out
    assert " match" not in out


def test_a_plan_says_how_many_steps_fit(says: Any, tmp_path: Path) -> None:
    flags = ["--shape", "1,8,8", "--classes", 4, "--batch-size", 10, "--set", "model.hidden=[16]"]
    for rule in ("bptt", "ottt"):
        says("plan", *flags, "--rule", rule, "--budget", "100kB", "--json", tmp_path / f"{rule}.json")
    bptt, ottt = (read(tmp_path / f"{rule}.json") for rule in ("bptt", "ottt"))
    assert bptt["budget"] == 100_000 and bptt["bytes_per_step"] > 0 == ottt["bytes_per_step"]
    assert ottt["largest"] > bptt["largest"] > 0
    for row in bptt["rows"]:
        fits = row["working_bytes"] + row["input_bytes"] <= 100_000
        assert fits == (row["steps"] <= bptt["largest"])
    assert f"at most {bptt['largest']} steps fit" in says("plan", *flags, "--rule", "bptt", "--budget", "0.1 MB")[1]


def test_a_budget_that_is_no_number(says: Any) -> None:
    status, _, err = says("plan", "--shape", "1,8,8", "--budget", "1.2.3MB")
    assert status == 2 and "--budget 1.2.3MB cannot be read" in err


def test_a_plan_takes_the_shape_of_the_data(says: Any, run: Path, tmp_path: Path) -> None:
    says("plan", run, "--measure", "3,5", "--steps", 7, "--json", tmp_path / "p.json")
    plan = read(tmp_path / "p.json")
    assert plan["shape"] == [7, 10, 1, 8, 8]
    assert [row["steps"] for row in plan["rows"] if row["measured"]] == [3, 5]
    assert 7 in [row["steps"] for row in plan["rows"]]


KINDS = {"rules": RULES, "models": MODELS, "optimizers": OPTIMIZERS, "schedules": SCHEDULES}


@pytest.mark.parametrize("kind", [*KINDS, "data", "neurons", "surrogates", "losses", "criteria"])
def test_lists_name_everything(says: Any, tmp_path: Path, kind: str) -> None:
    status, out, _ = says("list", kind, "--json", tmp_path / "l.json")
    listed = read(tmp_path / "l.json")
    assert status == 0 and all(name[:8] in out for name in listed)
    assert set(listed) == set(KINDS.get(kind, listed)) and list(listed) == sorted(listed)
    assert all(entry["summary"] for name, entry in listed.items() if kind != "schedules")


def test_a_list_tells_arguments_with_their_defaults() -> None:
    listed = cli.list_components("rules", quiet=True)
    assert listed["sltt"]["arguments"]["k"] == "None" and listed["ottt"]["arguments"]["online"] == "False"
    assert listed["ottt"]["summary"] == (OTTT.__doc__ or "").splitlines()[0]
    assert cli.list_components("schedules", quiet=True)["steplr"]["arguments"]["step_size"] == "required"
