"""Reasoning over knowledge graphs."""

from spikewright.graph.data import GraphData as GraphData
from spikewright.graph.data import Split as Split
from spikewright.graph.data import load_graph as load_graph
