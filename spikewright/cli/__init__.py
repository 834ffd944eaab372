"""The command line: one importable, typed function a command."""

from spikewright.cli.bench import bench as bench
from spikewright.cli.certify import certify as certify
from spikewright.cli.compare import compare as compare
from spikewright.cli.continual import continual as continual
from spikewright.cli.evaluate import evaluate as evaluate
from spikewright.cli.explain import explain as explain
from spikewright.cli.list import list_components as list_components
from spikewright.cli.plan import plan as plan
from spikewright.cli.plot import plot as plot
from spikewright.cli.reason import reason as reason
from spikewright.cli.train import train as train
