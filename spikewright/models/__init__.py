"""Reference networks for images, with the neuron type as an argument."""

from spikewright.models.conv import Conv as Conv
from spikewright.models.feedback import FeedbackNet as FeedbackNet
from spikewright.models.feedback_presets import alexnet_f as alexnet_f
from spikewright.models.feedback_presets import cifarnet_f as cifarnet_f
from spikewright.models.feedback_presets import conv_f as conv_f
from spikewright.models.feedback_presets import dvs_conv_f as dvs_conv_f
from spikewright.models.feedback_presets import mlp_f as mlp_f
from spikewright.models.feedback_presets import spide_conv_f as spide_conv_f
from spikewright.models.lenet import SpideLeNet as SpideLeNet
from spikewright.models.mlp import MLP as MLP
from spikewright.models.nf_resnet import NFResNet as NFResNet
from spikewright.models.nf_resnet_depths import nf_resnet18 as nf_resnet18
from spikewright.models.nf_resnet_depths import nf_resnet34 as nf_resnet34
from spikewright.models.nf_resnet_depths import nf_resnet50 as nf_resnet50
from spikewright.models.nf_resnet_depths import nf_resnet101 as nf_resnet101
from spikewright.models.preact_resnet import PreActResNet18 as PreActResNet18
from spikewright.models.registry import create_model as create_model
from spikewright.models.registry import list_models as list_models
from spikewright.models.registry import model_class as model_class
from spikewright.models.resnet import ResNet18 as ResNet18
from spikewright.models.stream_resnet import StreamResNet18 as StreamResNet18
from spikewright.models.vgg import VGG as VGG
from spikewright.models.vgg import conv5 as conv5
from spikewright.models.vgg import conv9 as conv9
from spikewright.models.vgg import vgg_f as vgg_f
from spikewright.models.vgg_bn import VGG11BN as VGG11BN
from spikewright.models.vgg_bn import vgg_dsr as vgg_dsr

__all__ = [
    "MLP",
    "VGG",
    "VGG11BN",
    "Conv",
    "FeedbackNet",
    "NFResNet",
    "PreActResNet18",
    "ResNet18",
    "SpideLeNet",
    "StreamResNet18",
    "alexnet_f",
    "cifarnet_f",
    "conv5",
    "conv9",
    "conv_f",
    "create_model",
    "dvs_conv_f",
    "list_models",
    "mlp_f",
    "model_class",
    "nf_resnet18",
    "nf_resnet34",
    "nf_resnet50",
    "nf_resnet101",
    "spide_conv_f",
    "vgg_dsr",
    "vgg_f",
]


def __dir__() -> list[str]:
    return __all__
