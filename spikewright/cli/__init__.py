"""The command line: one importable, typed function a command."""

from spikewright.cli._bench import bench as bench
from spikewright.cli._certify import certify as certify
from spikewright.cli._compare import compare as compare
from spikewright.cli._continual import continual as continual
from spikewright.cli._evaluate import evaluate as evaluate
from spikewright.cli._explain import explain as explain
from spikewright.cli._plan import plan as plan
from spikewright.cli._plot import plot as plot
from spikewright.cli._reason import reason as reason
from spikewright.cli._train import train as train
from spikewright.cli.list import list_components as list_components
