"""Which parameters a model trains, with a rectifier in place of spikes so that no zero is an accident."""

import pytest
import torch
from torch import Tensor, nn

from spikewright.models import create_model, list_models

SMALL = {
    "conv": ((1, 8, 8), {"channels": (4, 8), "hidden": 16}),
    "mlp": ((1, 8, 8), {"hidden": (16, 12)}),
    "vgg": ((3, 8, 8), {"width": 1 / 16}),
    "vgg_f": ((3, 8, 8), {"width": 1 / 16}),
    "conv5": ((3, 8, 8), {"width": 1 / 32}),
    "conv9": ((3, 8, 8), {"width": 1 / 16}),
    "vgg11_bn": ((2, 32, 32), {"width": 1 / 16, "pool_to": 2}),
    "resnet18": ((3, 8, 8), {"width": 1 / 16}),
    "preact_resnet18": ((3, 8, 8), {"width": 1 / 16}),
    "stream_resnet18": ((3, 8, 8), {"width": 1 / 5}),
    "vgg_dsr": ((2, 32, 32), {"width": 1 / 16, "pool_to": 2, "dropout": 0.0}),
    "spide_lenet": ((1, 8, 8), {"dropout": 0.0}),
    "mlp_f": ((1, 8, 8), {"hidden": (16, 12), "dropout": 0.0}),
    **{f"{name}_f": ((3, 8, 8), {"width": 1 / 16, "dropout": 0.0}) for name in ("alexnet", "cifarnet", "conv")},
    **{name: ((2, 8, 8), {"width": 1 / 16, "dropout": 0.0}) for name in ("spide_conv_f", "dvs_conv_f")},
    **{f"nf_resnet{depth}": ((3, 8, 8), {"width": 1 / 16, "stem": "cifar"}) for depth in (18, 34, 50, 101)},
}
BATCH_NORMALISED = ("vgg11_bn", "resnet18", "vgg_dsr", "preact_resnet18", "stream_resnet18")
BATCH_NORMALISED += ("mlp_f", "alexnet_f", "cifarnet_f", "conv_f")
SPIKING_READOUT = ("vgg_dsr", "preact_resnet18")
NF = [name for name in SMALL if name.startswith("nf_")]


def small(name: str, neuron=lambda: nn.LeakyReLU(0.1), **options) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    shape, sizes = SMALL[name]
    model = create_model(name, shape, 3, neuron, **{**sizes, **options}).double()
    return model, torch.randn(4, *shape, dtype=torch.float64)


def gradients(model: nn.Module, x: Tensor) -> dict[str, float]:
    """Largest gradient of each parameter that takes part, for a random linear function of the outputs."""
    model.zero_grad()
    output = model(x)
    output.backward(torch.randn_like(output))
    return {name: p.grad.abs().max().item() for name, p in model.named_parameters() if p.grad is not None}


def assert_learns(found: dict[str, float], silent: set[str]) -> None:
    assert {name for name, size in found.items() if not size < float("inf")} == set()
    assert {name for name, size in found.items() if size < 1e-12} == silent


def test_every_model_is_covered():
    assert sorted(SMALL) == list_models()


@pytest.mark.parametrize("name", SMALL)
def test_outputs_have_one_column_per_class(name):
    model, x = small(name)
    assert model(x).shape == (4, 3)
    assert model(x[:1]).shape == (1, 3) if name not in BATCH_NORMALISED else True


@pytest.mark.parametrize("options", [{}, {"norm": "sws"}, {"stride": 2, "kernel": 5}, {"hidden": 0}], ids=str)
def test_all_of_conv_learns(options):
    model, x = small("conv", **options)
    found = gradients(model, x)
    assert len(found) == len(list(model.parameters()))
    assert_learns(found, silent=set())


def without_feedback(name: str) -> dict[str, bool]:
    return {"feedback": False} if name.endswith("_f") else {}


@pytest.mark.parametrize("name", ["mlp", "vgg", "spide_conv_f", "dvs_conv_f", "spide_lenet"])
def test_all_of_it_learns(name):
    model, x = small(name, **without_feedback(name))
    found = gradients(model, x)
    assert len(found) == len(list(model.parameters()))
    assert_learns(found, silent=set())


NORMALISED_CONV = {"norm": "batch", "spiking_readout": True}


@pytest.mark.parametrize(
    "name, options",
    [*((name, {}) for name in BATCH_NORMALISED), ("conv", {"norm": "batch"}), ("conv", NORMALISED_CONV)],
)
def test_all_learns_but_biases_that_a_norm_removes(name, options):
    model, x = small(name, **without_feedback(name), **options)
    found = gradients(model, x)
    assert len(found) == len(list(model.parameters()))
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    norms = {f"{name}.bias" for name, module in model.named_modules() if isinstance(module, kinds)}
    kept = norms if name in SPIKING_READOUT or options == NORMALISED_CONV else norms | {"readout.bias"}
    assert_learns(found, silent={name for name in found if name.endswith("bias")} - kept)


def test_feedback_takes_no_part_before_the_second_step():
    model, x = small("vgg_f")
    found = gradients(model, x)
    assert set(dict(model.named_parameters())) - set(found) == {
        "features.1.transform.1.weight",
        "features.1.transform.1.bias",
    }
    assert_learns(found, silent=set())


@pytest.mark.parametrize("name", NF)
def test_a_readout_of_zero_lets_only_itself_learn(name):
    model, x = small(name)
    found = gradients(model, x)
    assert len(found) == len(list(model.parameters()))
    assert_learns(found, silent=set(found) - {"readout.weight", "readout.bias"})


@pytest.mark.parametrize("name", NF)
def test_gains_of_zero_silence_the_branches_and_nothing_else(name):
    model, x = small(name)
    nn.init.normal_(model.readout.weight)
    found = gradients(model, x)
    branches = {name for name in found if ".branch." in name}
    assert branches
    assert_learns(found, silent=branches)


@pytest.mark.parametrize("name", NF)
def test_all_learns_once_gains_are_open(name):
    model, x = small(name)
    nn.init.normal_(model.readout.weight)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("skipinit_gain"):
            nn.init.ones_(parameter)
    assert_learns(gradients(model, x), silent=set())


@pytest.mark.parametrize("name", [name for name in SMALL if name not in BATCH_NORMALISED])
def test_evaluation_is_the_forward_of_training(name):
    model, x = small(name, neuron=nn.ReLU)
    if name in NF:
        nn.init.normal_(model.readout.weight)
    assert torch.equal(model.train()(x), model.eval()(x))


@pytest.mark.parametrize("name", BATCH_NORMALISED)
def test_evaluation_does_not_mix_the_batch(name):
    model, x = small(name)
    model.train()(x)
    model.eval()
    torch.testing.assert_close(model(x), torch.cat([model(sample) for sample in x.split(1)]))


DROPPED = {
    "conv5": 4,
    "conv9": 8,
    "vgg": 8,
    "vgg_f": 8,
    "vgg11_bn": 8,
    "resnet18": 9,
    "nf_resnet18": 1,
    "preact_resnet18": 9,
    "vgg_dsr": 8,
}
DROPPED |= {"spide_lenet": 1, "mlp_f": 3, "conv_f": 2, "alexnet_f": 6, "spide_conv_f": 4}


@pytest.mark.parametrize("name, layers", DROPPED.items())
def test_dropout_is_there_when_asked_for(name, layers):
    def count(**options) -> int:
        return sum(isinstance(module, nn.Dropout) for module in small(name, **options)[0].modules())

    assert count() == 0
    assert count(dropout=0.3) == layers
    model, x = small(name, dropout=0.3)
    nn.init.normal_(model.readout.weight)
    assert not torch.equal(model(x), model(x))
