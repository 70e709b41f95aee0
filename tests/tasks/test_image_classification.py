from pathlib import Path

import numpy as np
import pytest
import torch
from classifiers import write_image_classifier, write_images

from edgelr.artifacts import Split
from edgelr.errors import UnsupportedModelError
from edgelr.examples import Call
from edgelr.load.images_file import load_images
from edgelr.metrics import METRICS
from edgelr.progress import Progress
from edgelr.recipe.finetune import Finetune
from edgelr.tasks import image_classification as task
from edgelr.tasks.task import Reading

QUIET = Progress(quiet=True)
COUNTS: dict[Split, int] = {"train": 20, "calibration": 10, "validation": 9, "test": 8}
Loaded = tuple[Reading, dict[Split, tuple[Call, ...]]]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("vit")
    write_images(folder / "images.npz")
    splits = load_images(folder / "images.npz", COUNTS, 0, folder, 3)
    return Reading(folder=write_image_classifier(folder / "model"), max_tokens=0, sounds=folder), splits


def test_scores_are_the_models(loaded: Loaded) -> None:
    reading, splits = loaded
    model = task.load_model(reading.folder)
    batches = task.example_batches(reading, splits["test"], 5)
    assert [len(batch["pixel_values"]) for batch in batches] == [5, 3]
    images, labels = task.images_of(reading, splits["test"])
    with torch.inference_mode():
        wanted = model(images).logits
    torch.testing.assert_close(torch.from_numpy(task.scores_of(model, images)), wanted, rtol=0, atol=1e-5)
    score = task.scorer(model, reading, splits["test"])(model)
    assert tuple(score) == METRICS["image-classification"]
    assert score["accuracy"] == pytest.approx(np.mean(wanted.argmax(1).numpy() == labels.numpy()))
    assert task.validator(model, reading, splits["test"])(model) == pytest.approx(0, abs=1e-6)


def test_losses_distill_and_read_the_labels(loaded: Loaded, tmp_path: Path) -> None:
    reading, splits = loaded
    teacher, student = (task.load_model(reading.folder) for _ in range(2))

    def loss_of(**settings: object) -> float:
        chosen = Finetune.model_validate({"steps": 1, "batch": 6, **settings})
        loss = task.losses(teacher, reading, splits["train"], chosen, 0, tmp_path, QUIET)
        return float(loss(student, 0).detach())

    assert abs(loss_of()) < 1e-5
    assert loss_of(task_loss=1.0) > 0.1


def test_a_graph_takes_any_number_of_images(loaded: Loaded) -> None:
    reading, splits = loaded
    model = task.load_model(reading.folder)
    (spec,) = task.graphs(model, reading, splits["test"][:1])
    assert [len(case["pixel_values"]) for case in spec.cases] == [2, 1, 3]
    with torch.inference_mode():
        torch.testing.assert_close(spec.module(**spec.cases[2]), model(**spec.cases[2]).logits)


def test_images_have_no_tokens(loaded: Loaded) -> None:
    reading, splits = loaded
    model = task.load_model(reading.folder)
    task.check_reach(model, reading)
    assert task.seen_tokens(reading, splits["test"]) == set()
    assert task.package_settings(model, reading) == {}
    with pytest.raises(UnsupportedModelError, match="images have no tokens"):
        task.token_table(model)
