from spikewright.kernels.gpu.dispatch import FOUND as FOUND
from spikewright.kernels.gpu.dispatch import available as available
from spikewright.kernels.gpu.dispatch import call as call
