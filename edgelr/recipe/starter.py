"""A recipe to start from: every section, with a comment on each choice."""

from __future__ import annotations

import re
from pathlib import Path

from edgelr.errors import UsageError
from edgelr.writing import atomic_write_text

_STARTER = """\
# A recipe for edgelr: which model, how small, how tuned, and what must hold before it is released.
#
#   edgelr plan {name}.yaml     check it, and see the rank of every layer; nothing is trained
#   edgelr build {name}.yaml    build, validate and report
#
# A key that is left out has its default. `edgelr schema` prints every key with its meaning.

edgelr: 1                    # format of this file
name: {name}
seed: 0                      # the same recipe, seed and versions give the same package

task:
  type: sentence-embedding   # texts to vectors that can be compared: search, clustering, duplicates
  data:
    source: python-docs      # Python's own documentation: nothing to download
    packages: [stdlib, numpy]  # installed packages whose docstrings are read
    train: 4000              # texts to tune on
    validation: 200          # pairs that pick the best checkpoint
    test: 500                # pairs that the package is validated on; they travel with it
  # Your own pairs instead (see also `hold_out` and `group` about what splits must not share):
  # data:
  #   source: file
  #   path: pairs.jsonl      # {{"query": ..., "passage": ...}} in each line; next to this recipe
  max_tokens: 128            # longer texts are cut here

model:
  path: sentence-transformers/all-MiniLM-L6-v2   # a hub id, or a folder next to this recipe
  # revision: main           # commit, tag or branch of a hub id: fix it to build the same again

compress:
  keep: {{parameters: 0.5}}    # the budget: share of the factorable layers; or `bytes`, or `macs`
  # keep: {{latency: {{device: cpu-1t, speedup: 1.5}}}}      # or as fast as this, by kernels timed there
  # keep: {{quality: {{metric: cosine, max_drop: 0.1}}}}     # or as small as this allows, before any tuning
  factors: kronecker         # best for the model's output | whitened: best for each layer's | plain: SVD
  allocate: sensitivity      # who gets the ranks: sensitivity (measured) | gradient | energy | uniform
  groups: [joint, query-key, value-output]   # several layers at once: shared factors, smaller heads
  refine: false              # fit each layer anew to what the compressed ones before it give: minutes
  rank_multiple: 16          # kernels like ranks that are multiples of 16
  exclude: []                # layers to leave dense, such as "encoder.layer.0.*"
  calibration:
    examples: 512            # texts that the input statistics come from
    sensitivity_examples: 64 # of these, how many each layer's sensitivity is measured on

finetune:                    # leave the section out to keep the factors as they are
  steps: 300                 # about a second each on two cores; more is better
  batch: 32
  learning_rate: 1.0e-3
  distill: {{embedding: 1.0, similarity: 1.0, hidden: 1.0}}   # weights; the dense model is the teacher
  task_loss: 0.0             # weight of the contrastive loss on (query, passage) pairs
  validate_every: 50

export:
  opset: 20                  # ONNX operator set

quantize:                    # leave the section out to keep fp32
  scheme: int8-dynamic       # int8 weights; activations are quantized as they come
  min_cosine: 0.98           # mean cosine to the fp32 graph, or the build fails

variants:                    # the same model, built for devices that do not accept int8-dynamic
  npu:                       # a phone's neural processor, such as --device qnn-htp-emulator
    export: {{operators: plain, shapes: {{tokens: [32]}}}}
    quantize: {{scheme: a16w8}}

validate:
  devices: [cpu-1t]          # `edgelr devices` lists them; your own go into devices/ next to this recipe
  baselines: [dense-fp32, dense-int8]   # measured next to the candidate, in the same run
  tokens: [16, 64, 128]      # input lengths that are timed
  seconds: 20                # measuring time for each device
  gates:                     # a package that fails one is not released: exit code 9
    - {{metric: cosine, min: 0.9}}             # to the dense model's vectors, on the test texts
    - {{metric: mrr@10, max_drop: 0.03}}       # against the dense model, on the same pairs
    - size_mb: {{max_share_of: dense-fp32, share: 0.25}}
    - {{latency: p90_ms, device: cpu-1t, max_share_of: dense-fp32, share: 0.8}}

compare:                     # what `edgelr compare --recipe {name}.yaml` accepts; no build depends on it
  tolerance: 0.05            # how much slower than the base, a share
  limits: {{bytes: 0.02}}      # what else may not grow by more: p90, load, memory, ...
"""


def starter_recipe(name: str) -> str:
    """A commented recipe that builds as it is.

    Args:
        name: The recipe's name; see ``name_of`` for what is valid.
    """
    return _STARTER.format(name=name)


def name_of(file: Path) -> str:
    """A valid recipe name from a file's: lower case, other characters than a-z 0-9 . _ - become '-'."""
    name = re.sub(r"[^a-z0-9._-]+", "-", file.stem.lower()).strip("._-")
    return name[:64] or "my-model"


def write_starter(file: Path) -> None:
    """Write the starter recipe to a new file; folders on the way are made.

    Raises:
        UsageError: The file exists.
        StorageError: It cannot be written.
    """
    if file.exists() or file.is_symlink():
        raise UsageError(f"{file} exists already", "give another name; nothing is overwritten")
    atomic_write_text(file, starter_recipe(name_of(file)))
