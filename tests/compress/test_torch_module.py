import numpy as np
import pytest
import torch
from torch import nn

from edgelr.artifact_files import read_factored, read_plan, read_survey
from edgelr.compress.torch_module import compress_module
from edgelr.lowrank.checkpoint import load_factored_into
from edgelr.lowrank.layers import LowRankLinear
from edgelr.lowrank.statistics import Statistics, statistics_file
from edgelr.progress import Progress
from edgelr.structure import Reduction, Sensitivity, Site

QUIET = Progress(quiet=True)


def survey_of(folder, inputs, curvature):
    """A survey of one layer ``0`` with these inputs."""
    from edgelr.artifacts import Survey

    statistics = Statistics(
        inputs={"0": "0"},
        grams={"0": inputs.T @ inputs},
        sums={"0": np.append(inputs.sum(0), len(inputs))},
        curvatures={"0": curvature},
    )
    with statistics_file(folder) as append:
        append(statistics)
    out = len(curvature)
    sizes = {"out": out, "in_": inputs.shape[1], "inputs": "0", "calls": 1, "energy": 1.0}
    site = Site(name="0", kind="linear", sensitivity=Sensitivity(points=((1.0, 1.0),)), **sizes)
    return Survey(folder=folder, sites=(site,), groups=(), skipped=(), tokens=len(inputs), parameters=out * 9)


@pytest.mark.parametrize("method", ["plain", "whitened", "kronecker"])
def test_full_rank_computes_what_the_dense_model_does(method, tmp_path):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 4)), torch.randn(20, 6)
    before = model(x)
    survey = survey_of(tmp_path, x.double().numpy(), np.diag([1.0, 2.0, 3.0, 4.0]))
    compress_module(model, survey, [Reduction(form="low-rank", sites=("0",), rank=4)], method, QUIET)
    assert isinstance(model[0], LowRankLinear)
    torch.testing.assert_close(model(x), before)


def test_each_method_is_the_best_by_what_it_knows(tmp_path):
    random = np.random.default_rng(0)
    inputs = random.normal(size=(100, 6)) * np.geomspace(1, 1e-2, 6)
    curvature, gram = np.diag(np.geomspace(1, 0.1, 6)), inputs.T @ inputs
    survey = survey_of(tmp_path, inputs, curvature)
    errors = {}
    for method in ("plain", "whitened", "kronecker"):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 6))
        weight = model[0].weight.detach().double().numpy()
        compress_module(model, survey, [Reduction(form="low-rank", sites=("0",), rank=2)], method, QUIET)
        change = weight - model[0].weight.detach().double().numpy()
        outputs = change @ gram @ change.T
        errors[method] = np.square(change).sum(), np.trace(outputs), np.trace(curvature @ outputs)
    for place, method in enumerate(errors):
        assert errors[method][place] == min(error[place] for error in errors.values())


def only(built, stage):
    return next((built / ".store" / stage).glob("*/manifest.json")).parent


def test_every_planned_reduction_of_a_build_is_made(built):
    plan = read_plan(only(built, "plan"))
    factored = read_factored(only(built, "compress"))
    assert factored.reductions == plan.reductions != ()
    assert factored.method == "kronecker"


def test_sites_of_a_build_that_no_reduction_names_stay_as_they_were(built, tiny_model):
    from edgelr.tasks.task import get_task

    load = get_task("sentence-embedding").load_model
    dense = load(tiny_model)
    model = load_factored_into(load(tiny_model), read_factored(only(built, "compress")))
    survey, plan = read_survey(only(built, "survey")), read_plan(only(built, "plan"))
    reduced = {name for reduction in plan.reductions for name in reduction.sites}
    assert {site.name for site in plan.sites if site.form != "dense"} == reduced
    for site in survey.sites:
        if site.name not in reduced:
            torch.testing.assert_close(
                model.get_submodule(site.name).state_dict(), dense.get_submodule(site.name).state_dict()
            )
    with torch.inference_mode():
        ids = torch.tensor([[2, 40, 41, 50, 3]])
        pair = [each(ids, torch.ones_like(ids)) for each in (model, dense)]
    assert 0.3 < float(nn.functional.cosine_similarity(*pair)) < 0.9999
