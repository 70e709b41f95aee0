"""How large a model can be: memory and time of survey, plan and compress, and how they grow with depth.

    python scripts/benchmarks/scale.py                        # both parts; the model takes most of an hour
    python scripts/benchmarks/scale.py --part layers          # only 6, 12 and 24 layers of a small width
    python scripts/benchmarks/scale.py --part model --factors kronecker

The model has TinyLlama's shape and random weights, in bf16: 22 layers, hidden size 2048, intermediate size
5632, 32 heads, 4 of keys and values, a vocabulary of 32000; 1.1 billion parameters. It is calibrated on
random token ids, through ``edgelr.api``, without measured sensitivities, in a process of its own, whose peak
memory is compared with 1.5 times the bytes of the model plus 2 GiB.

The time of factoring is compared with that of a full fp32 SVD (``torch.linalg.svd``) of every factored
matrix: one matrix of each shape is decomposed, the rest is extrapolated. The survey has decomposed every
matrix, and every group of matrices that may share a factor, in fp64 by then; that is counted apart, and
together. Wall-clock times mean little on a
machine that others use too: the processor's time is given next to them, and there is one thread, since
threads that wait for each other count as busy.

Processors without bf16 arithmetic take minutes for what fp32 takes seconds for: linear layers are computed in
fp32 here, layer by layer, with weights that stay bf16 (``--native`` leaves that out).
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import click
import torch
from torch import Tensor, nn

from edgelr import api
from edgelr.progress import Progress
from edgelr.recipe.schema import Factors


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model and what is done with it."""

    layers: int
    hidden: int = 2048
    intermediate: int = 5632
    heads: int = 32
    kv_heads: int = 4
    vocabulary: int = 32000
    batches: int = 4
    batch_tokens: int = 512
    factors: Factors = "whitened"
    allocate: Literal["gradient", "energy"] = "energy"
    keep: float = 0.5
    svd: bool = True
    threads: int = 1
    native: bool = False


SMALL: dict[str, Any] = {
    "hidden": 512,
    "intermediate": 1408,
    "heads": 8,
    "kv_heads": 2,
    "vocabulary": 1000,
    "svd": False,
}


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/benchmarks"), show_default=True)
@click.option("--part", type=click.Choice(["all", "model", "layers"]), default="all", show_default=True)
@click.option("--factors", type=click.Choice(["whitened", "kronecker"]), default="whitened")
@click.option("--layers", multiple=True, type=int, default=(6, 12, 24), help="Of the part 'layers'.")
@click.option("--depth", type=int, default=22, show_default=True, help="Layers of the part 'model'.")
@click.option("--keep", type=float, default=0.5, show_default=True)
@click.option("--threads", type=int, default=1, show_default=True)
@click.option("--native", is_flag=True, help="Compute in bf16.")
@click.option("--case", hidden=True)
def main(  # noqa: PLR0913, PLR0917 - a command line
    out: Path,
    part: str,
    factors: Factors,
    layers: tuple[int, ...],
    depth: int,
    keep: float,
    threads: int,
    native: bool,
    case: str | None,
) -> None:
    """Measure, print tables, write OUT/scale.json."""
    if case is not None:
        print(json.dumps(measure(Case(**json.loads(case)))))
        return
    chosen: dict[str, Any] = {
        "factors": factors,
        "allocate": "gradient" if factors == "kronecker" else "energy",
        "keep": keep,
        "threads": threads,
        "native": native,
    }
    found: dict[str, Any] = {}
    if part in ("all", "layers"):
        found["layers"] = [_apart(Case(layers=count, **SMALL, **chosen)) for count in layers]
        print(layers_table(found["layers"]))
    if part in ("all", "model"):
        found["model"] = _apart(Case(layers=depth, **chosen))
        print(model_table(found["model"]))
    out.mkdir(parents=True, exist_ok=True)
    (out / "scale.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _apart(case: Case) -> dict[str, Any]:
    """Measure in a process of its own, so that its peak memory is that of this case."""
    command = [sys.executable, __file__, "--case", json.dumps(asdict(case))]
    # Of torch, and of NumPy's own linear algebra.
    threads = {name: str(case.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    environment = {**os.environ, **threads}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(case: Case) -> dict[str, Any]:
    """Build the model; survey, plan and compress it."""
    if not case.native:
        nn.functional.linear = _linear_in_fp32
    clock = Clock()
    with clock.part("build"):
        model = build(case)
    size = sum(parameter.nbytes for parameter in model.parameters())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with clock.part("survey"):
            surveyed = api.survey(
                model,
                token_batches(case),
                folder / "survey",
                run=lambda model, batch: model.model(**batch).last_hidden_state,
                sensitivity_batches=0,
                exclude=("lm_head",),
                factors=case.factors,
                progress=Timed(clock),
            )
        disk = sum(path.stat().st_size for path in (folder / "survey").iterdir())
        with clock.part("plan"):
            planned = api.plan(surveyed, folder / "plan", keep=case.keep, allocate=case.allocate)
        with clock.part("compress"):
            small = api.compress(model, surveyed, planned, factors=case.factors)
    assert sum(parameter.numel() for parameter in small.parameters()) < parameters
    shapes = Counter((site.out, site.in_) for site in surveyed.sites if _reduced(site.name, planned))
    return {
        "case": asdict(case),
        "parameters": parameters,
        "model_bytes": size,
        "limit_bytes": int(1.5 * size) + 2 * 2**30,
        "peak_bytes": _peak(),
        "survey_disk_bytes": disk,
        "kept_share": planned.kept_share,
        "ranks": dict(Counter(f"{each.form} {each.rank}" for each in planned.reductions)),
        "parts": clock.parts,
        "svd": [_svd(shape, count) for shape, count in shapes.items()] if case.svd else [],
    }


def build(case: Case) -> nn.Module:
    """A Llama with random weights in bf16, never in fp32."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        num_hidden_layers=case.layers,
        hidden_size=case.hidden,
        intermediate_size=case.intermediate,
        num_attention_heads=case.heads,
        num_key_value_heads=case.kv_heads,
        vocab_size=case.vocabulary,
        use_cache=False,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        model: nn.Module = LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(torch.float32)
    return model


def token_batches(case: Case) -> list[dict[str, Tensor]]:
    """Random token ids, with nothing masked."""
    torch.manual_seed(1)
    shape = (1, case.batch_tokens)
    return [
        {
            "input_ids": torch.randint(case.vocabulary, shape),
            "attention_mask": torch.ones(shape, dtype=torch.long),
        }
        for _ in range(case.batches)
    ]


class Clock:
    """Seconds of each part, by the wall and by the processor, and the peak memory so far."""

    def __init__(self) -> None:
        self.parts: dict[str, dict[str, float]] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time a part; parts of one name add up."""
        wall, processor = time.perf_counter(), time.process_time()
        yield
        before = self.parts.get(name, {"wall_s": 0.0, "processor_s": 0.0})
        self.parts[name] = {
            "wall_s": before["wall_s"] + time.perf_counter() - wall,
            "processor_s": before["processor_s"] + time.process_time() - processor,
            "peak_bytes": _peak(),
        }
        print(f"{name}: {time.perf_counter() - wall:.1f} s, peak {_peak() / 1e9:.2f} GB", file=sys.stderr)


class Timed(Progress):
    """Times the bars of a survey, all passes of its statistics as one."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(quiet=True)
        self._clock = clock

    @contextmanager
    def bar(self, label: str, total: int) -> Iterator[Callable[..., None]]:
        """As of ``Progress``."""
        with (
            self._clock.part(f"survey: {label.split(',', maxsplit=1)[0]}"),
            super().bar(label, total) as advance,
        ):
            yield advance


class _LinearInFp32(torch.autograd.Function):
    """``x Wᵀ`` in fp32 without a lasting fp32 copy of W, not even for the gradient (of x alone)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(weight)
        return (x.float() @ weight.float().T).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (weight,) = ctx.saved_tensors
        return (gradients[0].float() @ weight.float()).to(gradients[0].dtype), None


def _linear_in_fp32(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    result: Tensor = _LinearInFp32.apply(input, weight)
    return result if bias is None else result + bias


def _reduced(name: str, planned: api.Plan) -> bool:
    return any(name in each.sites for each in planned.reductions)


def _svd(shape: tuple[int, int], count: int) -> dict[str, Any]:
    """A full fp32 SVD of one matrix of a shape."""
    torch.manual_seed(0)
    weight = torch.randn(shape)
    wall, processor = time.perf_counter(), time.process_time()
    torch.linalg.svd(weight, full_matrices=False)
    return {
        "shape": shape,
        "count": count,
        "wall_s": time.perf_counter() - wall,
        "processor_s": time.process_time() - processor,
    }


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def model_table(found: dict[str, Any]) -> str:
    """Peak memory against its limit, the time of each part, and of factoring against SVDs."""
    lines = [
        f"{found['parameters'] / 1e9:.2f}e9 parameters, {found['model_bytes'] / 1e9:.2f} GB",
        f"peak memory {found['peak_bytes'] / 1e9:.2f} GB, limit {found['limit_bytes'] / 1e9:.2f} GB, "
        f"statistics on disk {found['survey_disk_bytes'] / 1e9:.2f} GB",
        "",
        "| part | wall s | processor s | peak so far, GB |",
        "|---|---|---|---|",
    ]
    for name, part in found["parts"].items():
        times = f"{part['wall_s']:.1f} | {part['processor_s']:.1f}"
        lines.append(f"| {name} | {times} | {part['peak_bytes'] / 1e9:.2f} |")
    for unit in ("wall_s", "processor_s"):
        whole = sum(each["count"] * each[unit] for each in found["svd"])
        factoring = found["parts"]["compress"][unit]
        survey = found["parts"]["survey: computing spectra"][unit]
        lines.append(
            f"full fp32 SVDs ({unit}, extrapolated): {whole:.0f}; factoring {factoring:.0f}, "
            f"{whole / factoring:.1f} times less; with the survey's decompositions {survey + factoring:.0f}, "
            f"{whole / (survey + factoring):.1f} times less"
        )
    return "\n".join(lines)


def layers_table(found: list[dict[str, Any]]) -> str:
    """Seconds a layer, by depth."""
    lines = [
        "| layers | survey s | plan s | compress s | s a layer | processor s a layer |",
        "|---" * 6 + "|",
    ]
    for each in found:
        parts, count = each["parts"], each["case"]["layers"]
        names = ("survey", "plan", "compress")
        walls = [parts[name]["wall_s"] for name in names]
        processor = sum(parts[name]["processor_s"] for name in names)
        cells = " | ".join(f"{wall:.1f}" for wall in walls)
        lines.append(f"| {count} | {cells} | {sum(walls) / count:.2f} | {processor / count:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
