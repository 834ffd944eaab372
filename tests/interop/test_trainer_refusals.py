"""What trainers of others ask for that a rule cannot do, on stand-ins for the trainers."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import spikewright as sw
from spikewright.errors import ConfigError, InputError
from spikewright.interop import LightningMixin, TransformersMixin
from spikewright.interop import lightning as lightning_file
from spikewright.interop import transformers as transformers_file
from spikewright.train.distributed import Ranks


def network() -> sw.Network:
    return sw.Network(nn.Sequential(nn.Linear(4, 8), sw.LIF(), nn.Linear(8, 2)))


LOSS = sw.losses.PerStep(nn.CrossEntropyLoss())


class Module(LightningMixin, nn.Module):
    """A LightningModule as far as the mixin uses it."""

    def __init__(self, schedules: Any = ()) -> None:
        super().__init__()
        self.net, self.rule, self.loss = network(), sw.rules.SLTT(), LOSS
        self.optimizer: Any = torch.optim.SGD(self.net.parameters(), lr=0.1)
        self.steps: list[tuple[Any, Any]] = []
        self.logged: dict[str, Any] = {}
        loop = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=0))
        self.trainer: Any = SimpleNamespace(
            precision_plugin=SimpleNamespace(scaler=None), precision="16-mixed", strategy=SimpleNamespace(), model=self,
            fit_loop=loop, lr_scheduler_configs=schedules, callback_metrics={"loss": 2.5}, current_epoch=0,
        )  # fmt: skip

    def optimizers(self) -> Any:  # type: ignore[override]
        return self.optimizer

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:  # type: ignore[override]
        self.steps.append((scheduler, metric))

    def log(self, name: str, value: Any, **options: Any) -> None:  # type: ignore[override]
        self.logged[name] = value


BATCH = torch.rand(3, 5, 4), torch.tensor([0, 1, 0, 1, 1])


def schedule(name: str, interval: str, frequency: int = 1, monitor: str | None = None) -> Any:
    given = {"scheduler": name, "interval": interval, "frequency": frequency, "monitor": monitor}
    return SimpleNamespace(**given, reduce_on_plateau=monitor is not None)


def test_a_step_trains_and_logs_the_loss() -> None:
    module = Module()
    before = [p.clone() for p in module.net.parameters()]
    loss = module.training_step(BATCH, 0)
    assert module.logged == {"train_loss": loss} and loss.item() > 0 and not loss.requires_grad
    assert any(not torch.equal(p, old) for p, old in zip(module.net.parameters(), before, strict=True))
    assert all(p.grad is None for p in module.net.parameters())


def test_schedulers_step_at_their_interval() -> None:
    module = Module(
        [schedule("a", "step"), schedule("b", "step", 2), schedule("c", "epoch"), schedule("d", "epoch", 2)]
    )
    for index in range(4):
        module.training_step(BATCH, index)
    module.on_train_epoch_end()
    assert [name for name, _ in module.steps] == ["a", "a", "b", "a", "a", "b", "c"]


def test_a_plateau_is_told_what_it_monitors() -> None:
    module = Module([schedule("a", "epoch", monitor="loss")])
    module.on_train_epoch_end()
    assert module.steps == [("a", 2.5)]
    module = Module([schedule("a", "epoch", monitor="accuracy")])
    with pytest.raises(ConfigError, match=r"waits for 'accuracy', .* logged are \['loss'\]"):
        module.on_train_epoch_end()


def without_rule(module: Module) -> None:
    del module.rule


def two_optimizers(module: Module) -> None:
    module.optimizer = [module.optimizer] * 2


def wrapped(module: Module) -> None:
    module.net = nn.DataParallel(module.net)  # type: ignore[assignment]


def scaled(module: Module) -> None:
    module.trainer.precision_plugin.scaler = object()


MODULES: dict[str, tuple[Any, str]] = {
    "no rule": (without_rule, "has no attribute rule"),
    "two optimizers": (two_optimizers, "returns 2 optimizers"),
    "a wrapper": (wrapped, "DataParallel as its network, around a Network"),
    "loss scaling": (scaled, "precision '16-mixed', which scales losses"),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_lightning_module_that_cannot_be_trained_so(name: str) -> None:
    change, message = MODULES[name]
    module = Module()
    change(module)
    with pytest.raises(ConfigError, match=message):
        module.training_step(BATCH, 0)


def test_a_strategy_that_divides_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lightning_file, "present_ranks", lambda: Ranks(0, 2))
    with pytest.raises(ConfigError, match=r"by 2 processes with SimpleNamespace, .*'ddp'"):
        Module().training_step(BATCH, 0)


class Trainer:
    """A Trainer as far as the mixin uses it."""

    def __init__(self, model: Any, **args: Any) -> None:
        usual = {"gradient_accumulation_steps": 1, "fp16": False, "bf16": False, "n_gpu": 0, "max_grad_norm": 0.0}
        self.args = SimpleNamespace(**{**usual, "device": torch.device("cpu"), **args})
        self.model, self.label_names = model, []
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.state = SimpleNamespace(global_step=0)
        self.accelerator = SimpleNamespace(distributed_type="DistributedType.FSDP", unwrap_model=lambda model: model)

    def _prepare_inputs(self, inputs: Any) -> Any:
        return inputs


class RuleTrainer(TransformersMixin, Trainer): ...


def trainer(model: Any = None, **given: Any) -> Any:
    made: dict[str, Any] = {"rule": sw.rules.SLTT(), "loss": LOSS, **given}
    return RuleTrainer(network() if model is None else model, **made)


def test_a_batch_is_learned_and_evaluated() -> None:
    made = trainer(batch_first=True)
    inputs = {"x": BATCH[0].transpose(0, 1), "labels": BATCH[1]}
    before = [p.clone() for p in made.model.parameters()]
    loss = made.training_step(made.model, inputs)
    assert any(not torch.equal(p, old) for p, old in zip(made.model.parameters(), before, strict=True))
    assert all(p.grad is None for p in made.model.parameters()) and made.label_names == ["labels"]
    value, output, labels = made.prediction_step(made.model, inputs, False)
    assert output.shape == (5, 3, 2) and labels is BATCH[1] and value < loss
    expected = LOSS(made.model.run(BATCH[0])[0], BATCH[1], 3)
    assert value.item() == pytest.approx(expected.item())
    assert made.prediction_step(made.model, inputs, True)[1:] == (None, None)


ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "accumulation": ({"gradient_accumulation_steps": 4}, "gradient_accumulation_steps=4, but every update"),
    "float16": ({"fp16": True}, "fp16=True, which scales losses"),
    "several GPUs": ({"n_gpu": 2}, "2 GPUs in one process"),
    "a plain model": ({"model": nn.Linear(4, 2)}, "Linear as its network"),
    "no rule": ({"rule": None}, r"RuleTrainer\(rule=None\)"),
    "no loss": ({"loss": nn.CrossEntropyLoss()}, "as its loss"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_of_a_trainer_that_do_not_go_with_a_rule(name: str) -> None:
    given, message = ARGUMENTS[name]
    with pytest.raises(ConfigError, match=message):
        trainer(**given)


def test_parameters_that_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_file, "present_ranks", lambda: Ranks(0, 2))
    with pytest.raises(ConfigError, match="by 2 processes as FSDP"):
        trainer()


def test_a_batch_without_labels_is_named() -> None:
    with pytest.raises(InputError, match=r"a batch of \['pixels'\], without x and labels"):
        trainer().training_step(network(), {"pixels": BATCH[0]})


@pytest.mark.long
def test_an_import_of_the_library_imports_none_of_theirs() -> None:
    import subprocess
    import sys

    program = (
        "import sys, spikewright as sw; [getattr(sw.interop, name) for name in sw.interop.__all__]; "
        "theirs = 'lightning accelerate transformers timm neurobench onnx onnxscript onnxruntime snntorch'; "
        "print([name for name in theirs.split() if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
