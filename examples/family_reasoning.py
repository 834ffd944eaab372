"""Complete a knowledge graph of families with GRSNN, whose spikes travel along relations with learned delays."""

import torch
from torch.nn import functional as F

from spikewright.graph import GRSNN, RelationalGraph, evaluate, load_graph

EPOCHS, BATCH = 5, 16


def main() -> tuple[float, float]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data = load_graph("family", trees=2)
    graph = RelationalGraph.of(data.train.facts, len(data.train.entities), len(data.relations))
    model = GRSNN(graph.relations, scale=0.3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    before = evaluate(model, data, data.test)["mrr"]
    order = torch.cat([torch.randperm(len(data.train.queries)) for _ in range(EPOCHS)])
    for facts in data.train.queries[order].split(BATCH):
        edge_weight = graph.without(facts)  # the facts that are asked for are hidden
        scores = model(graph, facts[:, 0], facts[:, 1], edge_weight=edge_weight)
        F.cross_entropy(scores, facts[:, 2]).backward()
        optimizer.step()
        optimizer.zero_grad()
    after = evaluate(model, data, data.test)["mrr"]
    print(f"{len(data.train.entities)} people, {len(data.relations)} relations, {len(data.train.facts)} known facts")
    print(f"mean reciprocal rank of the right answer: {before:.3f} untrained, {after:.3f} trained")
    return before, after


if __name__ == "__main__":
    main()
