"""Knowledge graphs and citation graphs with their queries."""

from spikewright.graph.data.dataset import GraphData as GraphData
from spikewright.graph.data.dataset import GraphSplit as GraphSplit
from spikewright.graph.data.registry import graph_loader as graph_loader
from spikewright.graph.data.registry import graph_names as graph_names
from spikewright.graph.data.registry import load_graph as load_graph
