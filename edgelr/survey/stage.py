"""Stage survey: Source -> Survey."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from edgelr.artifact_files import read_survey, write_json
from edgelr.artifacts import LeftDense, Site, Source, Survey
from edgelr.errors import UnsupportedModelError
from edgelr.lowrank.svd import Matrix, output_energies, whitened_factors
from edgelr.progress import Progress
from edgelr.recipe.schema import Compress
from edgelr.runtime.arrays import write_arrays
from edgelr.survey.sensitivity import measure_change
from edgelr.survey.sites import Found, find_sites
from edgelr.survey.statistics import Statistics, gather
from edgelr.tasks.task import Batch, Task, get_task

_BATCH = 32


def survey(
    source: Source, task_type: str, max_tokens: int, compress: Compress, folder: Path, progress: Progress
) -> Survey:
    """List the sites; gather Gram matrices, output spectra and sensitivities.

    Args:
        source: The dense model and its data.
        task_type: The recipe's task.
        max_tokens: Longest text.
        compress: Which sites, and how many calibration examples.
        folder: Where the Survey is written.
        progress: Where to show how far it is.

    Raises:
        UnsupportedModelError: No layer can be factored, or the weights are not finite.
        UsageError: The model cannot read texts of ``max_tokens``.
        DataError: Activations are not finite.
    """
    task = get_task(task_type)
    model = task.load_model(source.model_folder)
    tokenizer = task.tokenizer_json(source.model_folder)
    task.check_reach(model, tokenizer, max_tokens)
    found = find_sites(model, compress.include, compress.exclude)
    examples = source.examples("calibration")
    few = examples[: compress.calibration.sensitivity_examples]
    batches, probes = (
        task.batches(tokenizer, task.texts(chosen), max_tokens=max_tokens, size=_BATCH)
        for chosen in (examples, few)
    )
    statistics = _statistics(task, model, found, batches, progress)
    reached, idle = _reached(found, statistics, progress)
    spectra = {name: _spectrum(site, statistics, name) for name, site in reached.items()}
    slopes = _sensitivities(task, model, reached, statistics, spectra, probes, progress)
    sites = [
        Site(
            name=name,
            kind="linear",
            out=site.out_features,
            in_=site.in_features,
            inputs=statistics.inputs[name],
            calls=max(1, round(statistics.calls[name] / len(batches))),
            energy=float(spectra[name].sum()),
            sensitivity=slopes[name],
        )
        for name, site in reached.items()
    ]
    write_arrays(folder / "statistics.npz", statistics.grams)
    write_arrays(folder / "spectra.npz", spectra)
    _write(folder, sites, [*found.skipped, *idle], statistics.tokens, model)
    return read_survey(folder)


def _statistics(
    task: Task, model: nn.Module, found: Found, batches: list[Batch], progress: Progress
) -> Statistics:
    with progress.bar("gathering input statistics", len(batches)) as advance:

        def run(batch: Mapping[str, Tensor]) -> None:
            task.run(model, dict(batch))
            advance()

        return gather(found.sites, batches, run)


def _reached(
    found: Found, statistics: Statistics, progress: Progress
) -> tuple[dict[str, nn.Linear], list[LeftDense]]:
    """The sites that ran, and those that did not: without an input there is nothing to choose factors by."""
    reached = {name: site for name, site in found.sites.items() if name in statistics.inputs}
    if not reached:
        raise UnsupportedModelError(
            f"none of the {len(found.sites)} layers to factor ran on the calibration data, "
            f"such as '{next(iter(found.sites))}'",
            "check compress.include: these are parts that the task does not use",
        )
    idle = [name for name in found.sites if name not in reached]
    for name in idle:
        progress.warn(f"'{name}' never ran on the calibration data and is left dense")
    return reached, [LeftDense(name=name, reason="never ran on the calibration data") for name in idle]


def _spectrum(site: nn.Linear, statistics: Statistics, name: str) -> Matrix:
    return output_energies(_weight(site), statistics.grams[statistics.inputs[name]])


def _weight(site: nn.Linear) -> Matrix:
    return site.weight.detach().double().cpu().numpy()


def _sensitivities(
    task: Task,
    model: nn.Module,
    sites: Mapping[str, nn.Linear],
    statistics: Statistics,
    spectra: Mapping[str, Matrix],
    batches: list[Batch],
    progress: Progress,
) -> dict[str, float]:
    """Change of the output per unit of dropped energy, each site alone at half its break-even rank."""
    with torch.inference_mode():
        references = [task.run(model, batch).result for batch in batches]

    def change(batch: Mapping[str, Tensor], reference: Tensor) -> Tensor:
        return task.distance(task.run(model, dict(batch)).result, reference)

    slopes = {}
    with progress.bar("measuring sensitivities", len(sites)) as advance:
        for name, site in sites.items():
            rank = max(1, site.in_features * site.out_features // (site.in_features + site.out_features) // 2)
            factors = whitened_factors(_weight(site), statistics.grams[statistics.inputs[name]], rank)
            dropped = float(spectra[name][rank:].sum())
            changed = measure_change(model, name, factors, batches, references, change)
            slopes[name] = changed / dropped if dropped > 0 else 0.0
            advance(note=name)
    return slopes


def _write(folder: Path, sites: list[Site], skipped: list[LeftDense], tokens: int, model: nn.Module) -> None:
    write_json(
        folder / "survey.json",
        {
            "sites": [vars(site) for site in sites],
            "skipped": [vars(entry) for entry in skipped],
            "tokens": tokens,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
        },
    )
