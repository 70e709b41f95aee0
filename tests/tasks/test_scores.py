from pathlib import Path

import pytest
import torch
from torch import nn

from edgelr.artifact_files import read_source
from edgelr.tasks.scores import scorer
from edgelr.tasks.task import get_task


def test_the_dense_model_is_like_itself_and_a_disturbed_one_is_not(built: Path) -> None:
    (source,) = (built / ".store" / "load").glob("*/source.json")
    examples = read_source(source.parent).examples("validation")
    task = get_task("sentence-embedding")
    folder = read_source(source.parent).model_folder
    dense, other = task.load_model(folder), task.load_model(folder)
    score = scorer(task, dense, task.tokenizer_json(folder), examples, 32)
    perfect = score(dense)
    assert perfect["cosine"] == pytest.approx(1.0)
    assert perfect["overlap@10"] == 1.0
    assert score(other) == pytest.approx(perfect, abs=1e-6)
    disturb(other)
    found = score(other)
    assert found.keys() == perfect.keys() == {"cosine", "mrr@10", "recall@10", "overlap@10"}
    assert found["cosine"] < 0.99


def disturb(model: nn.Module) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
