"""Which sites can be reduced together: those that read the same input, and those around attention heads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from edgelr.structure import GroupForm

# Names of the query, key, value and output projections, as in BERT; BART, Marian, Whisper, wav2vec2; Llama
# and its kin; DistilBERT; T5; ViT. A model with other names has no attention groups; everything else works.
_LAYOUTS = (
    ("self.query", "self.key", "self.value", "output.dense"),
    ("q_proj", "k_proj", "v_proj", "out_proj"),
    ("q_proj", "k_proj", "v_proj", "o_proj"),
    ("q_lin", "k_lin", "v_lin", "out_lin"),
    ("q", "k", "v", "o"),
    ("attention.query", "attention.key", "attention.value", "output.dense"),
)
_HEADS = ("num_attention_heads", "num_heads", "n_heads")
_PER_HEAD = ("q_norm", "k_norm", "rotary_emb")


@dataclass(frozen=True, kw_only=True)
class Found:
    """Sites that can be reduced together; see ``structure.Group``."""

    form: GroupForm
    sites: tuple[str, ...]
    heads: int = 1
    head_size: int = 0


def find_groups(model: nn.Module, sites: Mapping[str, nn.Module], inputs: Mapping[str, str]) -> list[Found]:
    """List the groups among the sites.

    Args:
        model: The dense model.
        sites: Those that ran.
        inputs: Site -> name of its input.
    """
    readers: dict[str, list[str]] = defaultdict(list)
    for name in sites:
        readers[inputs[name]].append(name)
    groups = [Found(form="joint", sites=tuple(names)) for names in readers.values() if len(names) > 1]
    linears = {name: site for name, site in sites.items() if isinstance(site, nn.Linear)}
    for name, module in model.named_modules():
        groups += _attention(name, module, linears, rotated=_rotates(model))
    return groups


def _attention(name: str, module: nn.Module, sites: Mapping[str, nn.Linear], *, rotated: bool) -> list[Found]:
    prefix = f"{name}." if name else ""
    for layout in _LAYOUTS:
        names = [prefix + part for part in layout]
        if not all(part in sites for part in names):
            continue
        query, key, value, output = (sites[part] for part in names)
        heads = _head_count(module)
        if not heads or query.out_features != key.out_features or query.out_features % heads:
            return []  # grouped queries share keys: their heads are not pairs
        groups = []
        plain = not any(hasattr(each, norm) for each in module.modules() for norm in _PER_HEAD)
        if plain and not rotated:
            size = query.out_features // heads
            groups.append(Found(form="query-key", sites=(names[0], names[1]), heads=heads, head_size=size))
        size = value.out_features // heads
        # An output of fewer channels than a head has no rank to drop.
        if value.out_features == output.in_features == size * heads and size <= output.out_features:
            groups.append(Found(form="value-output", sites=(names[2], names[3]), heads=heads, head_size=size))
        return groups
    return []


def _head_count(module: nn.Module) -> int:
    """Of an attention module, or of the one that it wraps (BERT's has its projections one level down)."""
    for each in module.modules():
        for attribute in _HEADS:
            if isinstance(heads := getattr(each, attribute, None), int):
                return heads
    return 0


def _rotates(model: nn.Module) -> bool:
    """Whether positions are rotated into queries and keys, between the projection and the product."""
    return any("rotary" in name.lower() or "rope" in name.lower() for name, _ in model.named_modules())
