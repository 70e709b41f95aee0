import copy

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from edgelr.lowrank.embedding import (
    LowRankEmbedding,
    LowRankHead,
    empty_low_rank_embedding,
    low_rank_embedding,
    low_rank_head,
    reason_against_embedding,
    tie,
)
from edgelr.lowrank.svd import Factors
from edgelr.lowrank.table import factor_table

COUNTS = np.arange(20)


def dense(**settings) -> nn.Embedding:
    torch.manual_seed(0)
    return nn.Embedding(20, 8, **settings)


def factors_of(embedding: nn.Embedding, rank: int):
    return factor_table(embedding.weight.detach().float().numpy(), COUNTS, rank)


def test_full_rank_looks_the_same_rows_up():
    embedding = dense(padding_idx=0)
    low = low_rank_embedding(embedding, factors_of(embedding, 8))
    ids = torch.randint(20, (3, 5))
    torch.testing.assert_close(low(ids), embedding(ids), atol=1e-5, rtol=1e-5)  # fp32 rounding of a product
    torch.testing.assert_close(low.weight, embedding.weight, atol=1e-5, rtol=1e-5)
    assert (low.num_embeddings, low.embedding_dim, low.padding_idx) == (20, 8, 0)


def test_a_row_is_what_the_factors_say():
    embedding = dense()
    factors = factors_of(embedding, 3)
    low = low_rank_embedding(embedding, factors)
    np.testing.assert_allclose(low(torch.arange(20)).detach().numpy(), factors.product.T, atol=1e-6)


def test_padding_stays_zero_and_gets_no_gradient():
    embedding = dense(padding_idx=4)
    low = low_rank_embedding(embedding, factors_of(embedding, 3))
    assert torch.equal(low(torch.tensor([4])), torch.zeros(1, 8))
    low(torch.tensor([4, 5])).sum().backward()
    assert torch.equal(low.table.grad[4], torch.zeros(3))
    assert low.table.grad[5].abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dtype_is_the_dense_one(dtype):
    embedding = dense().to(dtype)
    low = low_rank_embedding(embedding, factors_of(embedding, 3))
    assert (low.table.dtype, low.up.dtype, low(torch.tensor([1])).dtype) == (dtype, dtype, dtype)


@pytest.mark.parametrize("bias", [True, False])
def test_a_tied_head_scores_with_the_same_parameters(bias):
    embedding, head = dense(), nn.Linear(8, 20, bias=bias)
    head.weight = embedding.weight
    low = low_rank_embedding(embedding, factors_of(embedding, 8))
    scores = low_rank_head(head, low)
    hidden = torch.randn(2, 3, 8)
    torch.testing.assert_close(scores(hidden), head(hidden), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores.weight, head.weight, atol=1e-5, rtol=1e-5)
    assert scores.table is low.table
    assert scores.up is low.up
    assert (scores.in_features, scores.out_features, scores.rank) == (8, 20, 8)
    both = copy.deepcopy(nn.ModuleList([low, scores]))
    assert both[0].table is both[1].table
    assert sum(each.numel() for each in both.parameters()) == 20 * 8 + 8 * 8 + (20 if bias else 0)


def test_parameters_of_other_shapes_are_not_tied():
    with pytest.raises(ValueError, match=r"'table' is \[20, 3\] in the embedding, \[20, 4\] in the head"):
        tie(LowRankEmbedding(20, 8, 3), LowRankHead(8, 20, 4, bias=False))


class Scaled(nn.Embedding):
    def forward(self, input):
        return 2 * super().forward(input)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Linear(2, 2), "Linear is not an embedding"),
        (Scaled(20, 8), "Scaled computes more"),
        (nn.Embedding(20, 8, max_norm=1.0), "max_norm"),
    ],
)
def test_what_cannot_be_factored_says_why(module, reason):
    assert reason in (reason_against_embedding(module) or "")
    with pytest.raises(ValueError, match=reason):
        empty_low_rank_embedding(module, 2)


class Tied(nn.Module):
    """Embedding and head of a language model without anything between."""

    def __init__(self) -> None:
        super().__init__()
        embedding = dense()
        self.embedding = low_rank_embedding(embedding, factors_of(embedding, 3))
        self.head = low_rank_head(nn.Linear(8, 20), self.embedding)

    def forward(self, ids):
        return self.head(self.embedding(ids))


@pytest.mark.parametrize("tied", [False, True], ids=["embedding", "tied"])
def test_onnx_runtime_computes_the_same(tied, tmp_path):
    model = (Tied() if tied else Tied().embedding).eval()
    cases = [torch.randint(20, (2, 5)), torch.randint(20, (3, 9))]
    auto = torch.export.Dim.AUTO
    program = torch.onnx.export(
        model, (cases[0],), dynamo=True, opset_version=20, dynamic_shapes=({0: auto, 1: auto},), verbose=False
    )
    path = tmp_path / "model.onnx"
    program.save(path)
    operators = [node.op_type for node in program.model.graph]
    assert operators.count("Gather") == 1
    assert operators.count("MatMul") + operators.count("Gemm") == (3 if tied else 1)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for ids in cases:
        (found,) = session.run(None, {session.get_inputs()[0].name: ids.numpy()})
        np.testing.assert_allclose(
            found, model(ids).detach().numpy(), atol=1e-5
        )  # fp32, other summation order


def test_a_layer_prints_its_rank():
    assert "20, 8, rank=3" in str(LowRankEmbedding(20, 8, 3))
    assert "rank=3" in str(LowRankHead(8, 20, 3, bias=False))


class ScaledWordEmbedding(nn.Embedding):
    """As in BART and its copies, which transformers defines anew for each."""

    def __init__(self, *sizes: int, embed_scale: float) -> None:
        super().__init__(*sizes)
        self.embed_scale = embed_scale

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return super().forward(input_ids) * self.embed_scale


def test_a_scaled_embedding_keeps_its_scale_outside_the_factors() -> None:
    dense = ScaledWordEmbedding(20, 8, embed_scale=8.0**0.5)
    table = dense.weight.detach().double().numpy()
    factors = Factors(up=np.eye(8), down=np.ascontiguousarray(table.T))
    ids = torch.tensor([[3, 19], [0, 3]])
    torch.testing.assert_close(low_rank_embedding(dense, factors)(ids), dense(ids))
    torch.testing.assert_close(low_rank_embedding(dense, factors).weight, dense.weight)
