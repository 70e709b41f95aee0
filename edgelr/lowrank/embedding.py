"""The torch layers of a factored table: an embedding, and a head that shares its factors.

``table [vocabulary, rank]`` and ``up [dim, rank]`` are ``downᵀ`` and ``up`` of the factors in ``table.py``
and ``tied.py``: a row of the dense table is ``up @ table[token]``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgelr.lowrank.svd import Factors


class LowRankEmbedding(nn.Module):
    """``up @ table[token]``: a narrow table is looked up, then widened.

    The row of padding is what the dense row was approximated by (zeros stay zeros).

    Args:
        num_embeddings: Size of the vocabulary.
        embedding_dim: Size of the vectors that come out.
        rank: Size of the vectors that are stored.
        padding_idx: The token whose row gets no gradient, as in ``nn.Embedding``.
        scale: What the vectors are multiplied by on their way out; the table is stored without it.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        rank: int,
        *,
        padding_idx: int | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.rank = rank
        self.padding_idx = padding_idx
        self.scale = scale
        self.table = nn.Parameter(torch.empty(num_embeddings, rank))
        self.up = nn.Parameter(torch.empty(embedding_dim, rank))

    @property
    def weight(self) -> Tensor:
        """The whole table ``[vocabulary, dim]``: as large as the dense one, so not for use in a forward."""
        return self.table @ self.up.T

    def forward(self, input: Tensor) -> Tensor:
        """Look up and widen; the argument is called as in ``nn.Embedding``.

        Args:
            input: Token ids, ``[...]``.

        Returns:
            ``[..., dim]``.
        """
        rows = nn.functional.embedding(input, self.table, self.padding_idx)
        vectors = nn.functional.linear(rows, self.up)
        return vectors if self.scale == 1.0 else vectors * self.scale

    def extra_repr(self) -> str:
        """What ``print(model)`` shows."""
        return f"{self.num_embeddings}, {self.embedding_dim}, rank={self.rank}"


class LowRankHead(nn.Module):
    """``logits = (h up) tableᵀ + bias`` with the factors of an embedding.

    Args:
        in_features: Size of the hidden states.
        out_features: Size of the vocabulary.
        rank: The inner dimension.
        bias: Whether there is a bias.
    """

    def __init__(self, in_features: int, out_features: int, rank: int, *, bias: bool) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.rank = rank
        self.table = nn.Parameter(torch.empty(out_features, rank))
        self.up = nn.Parameter(torch.empty(in_features, rank))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    @property
    def weight(self) -> Tensor:
        """The matrix ``[vocabulary, dim]`` that the two stand for: as large as the dense one."""
        return self.table @ self.up.T

    def forward(self, input: Tensor) -> Tensor:
        """Score every token.

        Args:
            input: Hidden states, ``[..., dim]``.

        Returns:
            ``[..., vocabulary]``.
        """
        return nn.functional.linear(input @ self.up, self.table, self.bias)

    def extra_repr(self) -> str:
        """What ``print(model)`` shows."""
        return (
            f"in={self.in_features}, out={self.out_features}, rank={self.rank}, bias={self.bias is not None}"
        )


def reason_against_embedding(module: nn.Module) -> str | None:
    """Why an embedding cannot be factored, or None when it can.

    Args:
        module: Any module.
    """
    name = type(module).__name__
    if not isinstance(module, nn.Embedding):
        return f"{name} is not an embedding"
    if type(module).forward is not nn.Embedding.forward and scale_of(module) is None:
        return f"{name} computes more than a look-up"
    if module.max_norm is not None:
        return "it rescales its own rows (max_norm)"
    return None


def scale_of(module: nn.Embedding) -> float | None:
    """What a look-up is multiplied by: a number in BART's scaled embeddings and their copies, else None.

    The copies have no class in common, only a name; what keeps its scale in a tensor does more with it.
    """
    scale = getattr(module, "embed_scale", None)
    known = type(module).__name__.endswith("ScaledWordEmbedding")
    return float(scale) if known and isinstance(scale, float | int) else None


def low_rank_embedding(dense: nn.Embedding, factors: Factors) -> LowRankEmbedding:
    """A layer with these factors and the dense embedding's padding, dtype and device.

    Args:
        dense: One that ``reason_against_embedding`` has nothing against.
        factors: ``up [dim, rank]`` and ``down [rank, vocabulary]``.
    """
    layer = empty_low_rank_embedding(dense, factors.down.shape[0])
    with torch.no_grad():
        layer.table.copy_(torch.from_numpy(factors.down).T)
        layer.up.copy_(torch.from_numpy(factors.up))
    return layer


def empty_low_rank_embedding(dense: nn.Embedding, rank: int) -> LowRankEmbedding:
    """The layer that takes an embedding's place, uninitialised, for weights to be loaded into.

    Args:
        dense: One that ``reason_against_embedding`` has nothing against.
        rank: Size of the vectors that are stored.

    Raises:
        ValueError: The embedding cannot be factored.
    """
    if (reason := reason_against_embedding(dense)) is not None:
        raise ValueError(reason)
    return LowRankEmbedding(
        dense.num_embeddings,
        dense.embedding_dim,
        rank,
        padding_idx=dense.padding_idx,
        scale=scale_of(dense) or 1.0,
    ).to(dense.weight)


def low_rank_head(dense: nn.Linear, embedding: LowRankEmbedding) -> LowRankHead:
    """A head tied to a factored embedding, with the dense head's bias.

    Args:
        dense: The head, whose weight was the embedding's.
        embedding: Factored for both uses, see ``tied.py``.
    """
    head = LowRankHead(dense.in_features, dense.out_features, embedding.rank, bias=dense.bias is not None)
    head = head.to(dense.weight)
    if head.bias is not None:
        with torch.no_grad():
            head.bias.copy_(dense.bias)
    tie(embedding, head)
    return head


def tie(embedding: LowRankEmbedding, head: LowRankHead) -> None:
    """Let the head use the embedding's two parameters: the same objects, tuned and stored once.

    Args:
        embedding: Keeps its parameters.
        head: Loses its own.

    Raises:
        ValueError: They differ in shape.
    """
    for name in ("table", "up"):
        ours, theirs = getattr(embedding, name), getattr(head, name)
        if ours.shape != theirs.shape:
            raise ValueError(
                f"'{name}' is {list(ours.shape)} in the embedding, {list(theirs.shape)} in the head"
            )
    head.table, head.up = embedding.table, embedding.up
