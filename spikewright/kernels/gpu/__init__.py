from spikewright.kernels.gpu.dispatch import FOUND as FOUND
from spikewright.kernels.gpu.dispatch import RUNS_AGAIN as RUNS_AGAIN
from spikewright.kernels.gpu.dispatch import available as available
from spikewright.kernels.gpu.dispatch import call as call
