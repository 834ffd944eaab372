"""Parameters by relation that may depend on the query."""

from torch import Tensor, nn


class ByRelation(nn.Module):
    """Learned values per relation, query and channel, `[R, B, D]`: linear in the query vector, or the same for all
    queries.
    """

    def __init__(self, relations: int, width: int, dependent: bool) -> None:
        super().__init__()
        self.shape = (relations, width)
        self.of = nn.Linear(width, relations * width) if dependent else nn.Embedding(relations, width)

    def forward(self, query: Tensor) -> Tensor:
        if isinstance(self.of, nn.Embedding):
            return self.of.weight[:, None].expand(-1, len(query), -1)
        return self.of(query).unflatten(1, self.shape).transpose(0, 1)
