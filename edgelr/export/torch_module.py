"""Export of the torch model of a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import nn

from edgelr.artifacts import Cost, Factored, Package, Source
from edgelr.errors import ExportError
from edgelr.examples import write_examples
from edgelr.export.convert import convert
from edgelr.export.fuse import fuse_attention
from edgelr.export.graphs import matrix_count, traced_form
from edgelr.export.heads import cut_zero_channels
from edgelr.export.in_place import HEAD_MULTIPLE, keep_caches_in_place
from edgelr.export.label import Label
from edgelr.export.masked_attention import use_onnx_attention
from edgelr.export.packed import pack_projections
from edgelr.export.parity import check_parity
from edgelr.export.pivot import pivot_graph
from edgelr.export.plain import write_plainly
from edgelr.export.tables import share_tables, store_rows_once
from edgelr.export.tidy import tidy
from edgelr.export.top import rank_inside
from edgelr.export.unused import merge_unused
from edgelr.export.waves import tabulate_waves
from edgelr.lowrank.checkpoint import load_factored_into
from edgelr.lowrank.graph_file import write_graph
from edgelr.lowrank.layers import IntoHeads, OutOfHeads
from edgelr.lowrank.rotate import rotate_inner
from edgelr.lowrank.stored import bring_in
from edgelr.progress import Progress
from edgelr.recipe.schema import Export
from edgelr.runtime.arrays import write_arrays
from edgelr.runtime.graph import describe_graph
from edgelr.runtime.masked_caches import PAST_MASK
from edgelr.runtime.package import seal_package
from edgelr.runtime.shapes import shapes_setting
from edgelr.tasks.log_mel import LogMel
from edgelr.tasks.task import GraphSpec, get_task, load_student, reading_of


def export_task(
    source: Source,
    factored: Factored | None,
    label: Label,
    settings: Export,
    folder: Path,
    progress: Progress,
) -> Package:
    """See ``stage.export``."""
    task, reading = get_task(label.task.type), reading_of(source, label.task)
    dense = task.load_model(source.model_folder)
    # What is traced has its weights in memory, as the graph will have them.
    model = bring_in(dense) if factored is None else load_factored_into(load_student(task, reading), factored)
    if factored is not None and settings.drop_unused_tokens:
        read = [*source.examples("train", task.EXAMPLE), *source.examples("calibration", task.EXAMPLE)]
        seen = task.seen_tokens(reading, read)
        unused = merge_unused(model, task.token_table(model), seen)
        progress.note(f"{len(seen)} tokens keep their rows, {unused} share those of the most similar")
    examples = source.examples("test", task.EXAMPLE)
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    saved, graphs = 0, {}
    for spec in task.graphs(model, reading, examples):
        cases, fewer = _write_graph(spec, settings, folder, progress)
        arrays |= cases
        saved += fewer
        graphs[spec.role] = describe_graph(folder / f"{spec.role}.onnx")
    arrays |= task.furnish(folder, model, dense, reading, examples, progress)
    write_arrays(folder / "reference.npz", arrays)
    write_examples(folder / "examples.jsonl", examples)
    if source.license:
        (folder / "LICENSE-NOTICE").write_text(
            f"The model '{source.title}' that this package was made of is licensed under: {source.license}\n",
            encoding="utf-8",
        )
    return seal_package(
        folder,
        name=label.name,
        task=label.task.type,
        graphs=graphs,
        precision="fp32",
        cost=Cost(parameters=_parameters(model) - saved, bytes=0, macs=label.macs),
        settings={**task.package_settings(model, reading), **shapes_setting(settings.shapes.tokens)},
        source={"model": source.title, "fingerprint": source.fingerprint},
        gates=(),
        accuracy={},
    )


def _write_graph(
    spec: GraphSpec, settings: Export, folder: Path, progress: Progress
) -> tuple[dict[str, np.ndarray[Any, Any]], int]:
    """Returns the parity cases that travel, and how many numbers the graph stores less than the model."""
    path = folder / f"{spec.role}.onnx"
    graph = convert(spec, traced_form(spec.module), settings.opset)
    fused = fuse_attention(graph)
    proto = tidy(graph, spec, matrix_count(spec.module, spec.idle))
    _cut_heads(proto, spec, path.name)
    saved = _pivot(proto, path.name, progress) if settings.pivot else 0
    if settings.operators == "fused":
        share_tables(proto)  # an NPU has no table that is the transpose of a matrix
    if settings.drop_unused_tokens:
        saved += store_rows_once(proto)
    if spec.one_token:
        _pack(proto, path.name, progress)
        # The operator stays only where ONNX Runtime runs it.
        writing = keep_caches_in_place(proto, HEAD_MULTIPLE if settings.operators == "fused" else 1)
        progress.note(f"{path.name}: {writing} attentions write into their caches")
    if settings.operators == "plain":
        fused -= write_plainly(proto)
        _check_cache(proto, spec)
    else:
        use_onnx_attention(proto)  # everything above knows the other operator
    if isinstance(spec.module, LogMel):
        tabulate_waves(proto, spec.module.frame)  # no parameters: nothing is saved of these
    write_graph(proto, path)
    cases, worst = check_parity(spec, path, settings.tolerance)
    progress.note(
        f"{path.name}: {fused} attentions fused, equal to torch within {worst:.2g} on {len(cases)} shapes"
    )
    if settings.top is not None:
        cases = rank_inside(proto, path, settings.top, cases)
    kept = cases if spec.travels else []
    named = {f"{name}.{number}": array for number, case in enumerate(kept) for name, array in case.items()}
    return named, saved


def _cut_heads(proto: onnx.ModelProto, spec: GraphSpec, name: str) -> None:
    resting = {id(module) for part in spec.idle for module in part.modules()}
    shrunk = [each for each in spec.module.modules() if isinstance(each, IntoHeads | OutOfHeads)]
    narrow = sum(id(each.narrow) not in resting for each in shrunk) // 2
    cut = cut_zero_channels(proto)
    if cut != narrow:
        raise ExportError(
            f"{name}: attention heads became smaller in {narrow} pairs of layers, in the graph only in {cut}",
            "the attention of this model cannot be fused yet; set compress.groups: [joint]",
        )


def _pivot(proto: onnx.ModelProto, name: str, progress: Progress) -> int:
    """Pivot what can be pivoted, say so, and return how many numbers that saved."""
    chains = pivot_graph(proto)
    count = sum(chain.side is not None for chain in chains)
    saved = sum(chain.saved for chain in chains)
    progress.note(f"{name}: {count} of {len(chains)} low-rank layers pivoted, {saved} numbers saved")
    return saved


def _check_cache(proto: onnx.ModelProto, spec: GraphSpec) -> None:
    """A decoder whose attention was not recognized would be right, and of another size at every step."""
    if spec.one_token and PAST_MASK not in {value.name for value in proto.graph.input}:
        raise ExportError(
            f"{spec.role}: its attention keeps a cache in a way that is not known and cannot become plain",
            "set export.operators: fused",
        )


def _pack(proto: onnx.ModelProto, name: str, progress: Progress) -> None:
    """Last of all: everything else looks for the matrix of each layer."""
    # So does stage quantize, which finds no factors behind a Split: they are turned for it here.
    rotate_inner(proto)
    before = len(proto.graph.node)
    count = pack_projections(proto)
    fewer = before - len(proto.graph.node)
    progress.note(f"{name}: {count} projections share a product with others, {fewer} nodes fewer")


def _parameters(model: nn.Module) -> int:
    return sum({id(parameter): parameter.numel() for parameter in model.parameters()}.values())
