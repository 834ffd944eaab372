import inspect
import re

import pytest
import torch
from torch import nn

from spikewright.errors import ConfigError, ShapeError
from spikewright.models import MLP, VGG, Conv, create_model, list_models, model_class

SHAPE = (3, 32, 32)
NAMES = ["alexnet_f", "cifarnet_f", "conv", "conv5", "conv9", "conv_f", "dvs_conv_f", "mlp", "mlp_f"]
NAMES += ["nf_resnet101", "nf_resnet18", "nf_resnet34", "nf_resnet50"]
NAMES += ["preact_resnet18", "resnet18", "spide_conv_f", "spide_lenet", "stream_resnet18"]
NAMES += ["vgg", "vgg11_bn", "vgg_dsr", "vgg_f"]


def test_the_list_is_complete_and_sorted():
    assert list_models() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_constructor_has_the_same_form(name):
    parameters = list(inspect.signature(model_class(name)).parameters.values())
    assert [parameter.name for parameter in parameters[:3]] == ["shape", "classes", "neuron"]
    for option in parameters[3:]:
        assert option.kind is option.KEYWORD_ONLY
        assert option.default is not option.empty and option.annotation is not option.empty


def test_model_class_returns_the_class():
    assert model_class("mlp") is MLP
    assert model_class("vgg") is VGG


def assert_refused(match: str, name: str, error=ConfigError, shape=SHAPE, classes=10, neuron=nn.ReLU, **options):
    with pytest.raises(error, match=match):
        create_model(name, shape, classes, neuron, **options)


def test_unknown_names_and_options_are_answered_with_the_nearest():
    assert_refused("no model 'vgg_ff'. Did you mean 'vgg_f'", "vgg_ff")
    assert_refused("'mlp' has no option 'hiden'. Did you mean 'hidden'", "mlp", hiden=(3,))
    assert_refused("'mlp' has no option 'shape_'", "mlp", shape_=(3,))
    assert_refused("no norm 'sw'. Did you mean 'sws'", "conv", norm="sw")
    assert_refused("no stem 'cifar10'. Did you mean 'cifar'", "nf_resnet18", stem="cifar10")
    assert_refused("no restriction 'spectrum'. Did you mean 'spectral'", "conv_f", restriction="spectrum")
    assert_refused("'conv_f' has no option 'layers'", "conv_f", layers=("8C3",))


@pytest.mark.parametrize("name", NAMES)
def test_every_model_refuses_what_is_no_problem_to_solve(name):
    assert_refused("three whole numbers", name, error=ShapeError, shape=(3, 32))
    assert_refused("three whole numbers", name, error=ShapeError, shape=(3, 0, 32))
    assert_refused("classes=0.: there is one output per class", name, classes=0)
    assert_refused("neuron of its own", name, neuron=nn.ReLU())
    assert_refused("neuron of its own", name, neuron="lif")


def test_impossible_options_are_refused():
    assert_refused("hidden=256.: hidden is a sequence", "mlp", hidden=256)
    assert_refused("hidden=0.: each entry", "mlp", hidden=(16, 0))
    assert_refused("channels=2.5.: each entry", "conv", channels=(2.5,))
    assert_refused("kernel=4", "conv", kernel=4)
    assert_refused("pool=0.: pool is a number", "conv", pool=0)
    assert_refused("hidden=-1.: hidden counts neurons", "conv", hidden=-1)
    assert_refused("no init 'kaimin'. Did you mean 'kaiming'", "conv", init="kaimin")
    assert_refused("layers='M'.: each entry", "vgg", layers=(64, "M"))
    assert_refused("first layer has to be a convolution", "vgg", layers=("P", 64))
    assert_refused("width=0.: channels are multiplied", "vgg", width=0)
    assert_refused("dropout=1.0.: dropout is the share", "vgg", dropout=1.0)
    assert_refused("dropout=-0.1.: dropout is the share", "resnet18", dropout=-0.1)
    assert_refused("blocks=0.: each entry", "resnet18", blocks=(2, 0))
    assert_refused("pool_to=0.: pool_to is a number", "vgg11_bn", pool_to=0)
    assert_refused("blocks=0.: each entry", "preact_resnet18", blocks=(2, 0))
    assert_refused("blocks=0.: each entry", "stream_resnet18", blocks=(2, 0))
    assert_refused("no stem 'imagenet'. Did you mean 'miniimagenet'", "stream_resnet18", stem="imagenet")
    assert_refused("hidden=400.: hidden is a sequence", "mlp_f", hidden=400)


def test_images_too_small_for_the_pooling_are_refused():
    assert_refused("halves its image 3 times, but 7 x 9 pixels", "vgg", error=ShapeError, shape=(3, 7, 9))
    assert_refused("both sides need 32 or more", "vgg11_bn", error=ShapeError, shape=(2, 31, 64))
    assert_refused("reduces its image by 4, but 3 x 8", "conv", error=ShapeError, shape=(1, 3, 8))
    assert_refused("halves its image 2 times, but 3 x 8", "spide_lenet", error=ShapeError, shape=(1, 3, 8))


@pytest.mark.parametrize("side", [8, 13, 28, 32])
@pytest.mark.parametrize(
    "options", [{}, {"kernel": 5}, {"stride": 2}, {"pool": 1}, {"channels": (4, 6, 8)}, {"hidden": 0}]
)
def test_conv_fits_images_of_any_size(side, options):
    model = Conv((1, side, side + 3), 4, nn.ReLU, **{"channels": (2, 3), "hidden": 5, **options})
    assert model(torch.zeros(2, 1, side, side + 3)).shape == (2, 4)


@pytest.mark.parametrize("name", list_models())
def test_help_documents_every_argument_with_its_default(name):
    constructor = model_class(name)
    arguments = (inspect.getdoc(constructor) or "").partition("Args:\n")[2].partition("\n\n")[0]
    entries = {
        entry.split(":")[0].strip(): " ".join(entry.split()) for entry in re.split(r"\n(?=    \w+: )", arguments)
    }
    parameters = inspect.signature(constructor).parameters
    assert list(entries) == list(parameters)
    for key, parameter in parameters.items():
        required = parameter.default is parameter.empty
        default = "Default" if required else f"Default: {parameter.default!r}.".replace("'", '"')
        assert (default in entries[key]) is not required, entries[key]
