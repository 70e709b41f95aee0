from edgelr.tasks import sentence_embedding
from edgelr.tasks.task import get_task


def test_a_task_is_its_module():
    assert get_task("sentence-embedding") is sentence_embedding
