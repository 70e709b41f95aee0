"""A graph is surveyed as the torch module that it was made of, and the same plan follows."""

import numpy as np
import onnxruntime
import pytest
import torch
from graph_models import network, network_calls, write
from torch import nn

from edgelr.api import relative_error as torch_error
from edgelr.compress.onnx_graph import compress_graph
from edgelr.compress.torch_module import compress_module
from edgelr.errors import UnsupportedModelError
from edgelr.plan.planner import Storage
from edgelr.plan.stage import plan
from edgelr.progress import Progress
from edgelr.recipe.schema import Compress
from edgelr.survey.onnx_graph import relative_error, survey_graph
from edgelr.survey.subject import Subject
from edgelr.survey.torch_module import survey_module

QUIET = Progress(quiet=True)
FP32 = Storage(precision="fp32", pivoted=False)


def settings(**changes) -> Compress:
    given = {"keep": {"parameters": 0.5}, "factors": "whitened", "rank_multiple": 4, "groups": ("joint",)}
    return Compress.model_validate(given | changes)


class Block(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.dense = (nn.Linear(dim, dim) for _ in range(4))
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.first, self.second = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = self.query(x) @ self.key(x).transpose(1, 2) / x.shape[-1] ** 0.5
        x = self.first(x + self.dense(torch.softmax(scores, -1) @ self.value(x)))
        return self.second(x + self.down(nn.functional.gelu(self.up(x))))


class Bert(nn.Module):
    """Six layers, shaped as BERT's are."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 24)
        self.layers = nn.ModuleList(Block(24, 64) for _ in range(6))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table(ids)
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    torch.manual_seed(0)
    net = Bert().eval()
    with torch.no_grad():  # trained weights have spectra that fall, each layer's in its own way
        for number, module in enumerate(m for m in net.modules() if isinstance(m, nn.Linear)):
            left, values, right = torch.linalg.svd(module.weight, full_matrices=False)
            module.weight.copy_(
                left * (values * (0.80 + 0.03 * (number % 6)) ** torch.arange(len(values))) @ right
            )
    path = tmp_path_factory.mktemp("bert") / "model.onnx"
    example = torch.randint(0, 50, (2, 7))
    dynamic = {"ids": {0: torch.export.Dim("b"), 1: torch.export.Dim("t")}}
    torch.onnx.export(net, (example,), path, dynamo=True, dynamic_shapes=dynamic, verbose=False)
    return net, path


def test_the_same_ranks_and_outputs_as_through_torch(bert, tmp_path):
    net, path = bert
    batches = [
        {"ids": torch.randint(0, 50, (1, 12), generator=torch.Generator().manual_seed(n))} for n in range(24)
    ]
    for name in ("s", "g", "sp", "gp"):
        (tmp_path / name).mkdir()
    subject = Subject(
        model=net,
        batches=batches,
        few=batches[:8],
        run=lambda model, batch: model(batch["ids"]),
        distance=torch_error,
        probe=lambda output: output.sum(),
    )
    module = survey_module(subject, settings(), tmp_path / "s", QUIET)
    calls = [{"ids": batch["ids"].numpy()} for batch in batches]
    graph = survey_graph(path, calls, calls[:8], settings(), tmp_path / "g", QUIET)
    assert len(graph.sites) == len(module.sites) == 36
    for one, other in zip(module.sites, graph.sites, strict=True):
        assert (one.out, one.in_) == (other.out, other.in_)
        assert one.energy == pytest.approx(other.energy, rel=1e-4)
        assert one.sensitivity.slope == pytest.approx(other.sensitivity.slope, rel=1e-2)  # of small changes
    assert [len(group.sites) for group in graph.groups] == [len(group.sites) for group in module.groups]
    planned, drawn = (
        plan(survey, settings(), FP32, tmp_path / name) for survey, name in ((module, "sp"), (graph, "gp"))
    )
    assert [(row.form, row.rank) for row in planned.sites] == [(row.form, row.rank) for row in drawn.sites]
    assert any(row.form != "dense" for row in drawn.sites)
    compress_module(net, module, planned.reductions, "whitened", QUIET)
    made = compress_graph(path, graph, drawn.reductions, tmp_path, QUIET)
    session = onnxruntime.InferenceSession(str(made.folder / "model.onnx"))
    with torch.inference_mode():
        for batch, call in zip(batches[:4], calls[:4], strict=True):
            (found,) = session.run(None, call)
            np.testing.assert_allclose(found, net(batch["ids"]).numpy(), atol=1e-4)


def test_every_kind_of_layer_has_a_spectrum_and_a_sensitivity(tmp_path):
    path, calls = write(network(), tmp_path), network_calls()
    survey = survey_graph(path, calls, calls[:4], settings(vocabulary=True), tmp_path, QUIET)
    sites = {site.name: site for site in survey.sites}
    assert set(sites) == {"embed", "conv", "attention.q", "attention.k", "first", "head"}
    assert sites["first"].shared == ("second",)
    assert sites["conv"].kernel == (3,)
    assert sites["attention.q"].inputs == sites["attention.k"].inputs
    assert [group.sites for group in survey.groups] == [("attention.q", "attention.k")]
    assert all(site.sensitivity.points[0][1] > 1e-6 for site in survey.sites)
    assert (survey.measured, survey.factors) == (True, "whitened")


def test_without_calls_to_measure_on_there_are_energies(tmp_path):
    path = write(network(), tmp_path)
    survey = survey_graph(path, network_calls(3), [], settings(allocate="energy"), tmp_path, QUIET)
    assert not survey.measured
    assert all(site.energy > 0 for site in survey.sites)
    assert [(left.name, left.reason) for left in survey.skipped] == [
        ("embed", "an embedding: compress.vocabulary is off")
    ]


def test_half_precision(tmp_path):
    path, calls = write(network(dtype=np.float16), tmp_path), network_calls(4)
    survey = survey_graph(path, calls, calls[:2], settings(), tmp_path, QUIET)
    assert all(np.isfinite(site.sensitivity.slope) for site in survey.sites)


def test_a_graph_without_constant_weights(tmp_path):
    from graph_models import FLOAT, model
    from onnx import helper

    proto = model([helper.make_node("Relu", ["x"], ["y"])], {"x": (FLOAT, [3])}, {"y": (FLOAT, [3])}, {})
    call = {"x": np.zeros(3, np.float32)}
    with pytest.raises(UnsupportedModelError, match="has no weight matrix at all"):
        survey_graph(write(proto, tmp_path), [call], [call], settings(), tmp_path, QUIET)


def test_a_weight_that_is_not_finite(tmp_path):
    from onnx import numpy_helper

    proto = network()
    for tensor in proto.graph.initializer:
        if tensor.name == "q.weight":
            tensor.CopyFrom(numpy_helper.from_array(np.full((32, 24), np.nan, np.float32), tensor.name))
    with pytest.raises(UnsupportedModelError, match=r"'attention.q' is not finite"):
        survey_graph(write(proto, tmp_path), network_calls(1), [], settings(), tmp_path, QUIET)


def test_an_error_is_relative_and_of_fractions():
    one, other = np.ones((2, 2), np.float32), np.array([1, 2])
    assert relative_error([one * 1.1, other], [one, other + 1]) == pytest.approx(0.01, rel=1e-5)
    assert relative_error([other], [other]) == 0.0
