"""Split examples by group, so that train, calibration, validation and test never share one."""

from __future__ import annotations

import fnmatch
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from edgelr.artifacts import Split
from edgelr.errors import DataError
from edgelr.examples import Example

# The test takes its groups first, so that it does not change with the sizes of the others.
_ORDER: tuple[Split, ...] = ("test", "validation", "calibration", "train")
_NEEDS_QUERY: frozenset[Split] = frozenset({"test", "validation"})
# Groups up to this share of a split go first; calibration wants variety more than anything.
_LARGEST_SHARE: dict[Split, float] = {"test": 0.1, "validation": 0.1, "calibration": 0.04, "train": 1.0}


def split_by_group(
    examples: Sequence[Example], counts: Mapping[Split, int], *, seed: int, hold_out: Sequence[str] = ()
) -> dict[Split, tuple[Example, ...]]:
    """Split ``examples`` into disjoint groups, deterministically.

    Groups are put into an order that depends only on their name and ``seed``; each split takes whole groups
    until it has its count, small ones first, so that no module is most of a test; ``train`` takes the rest.

    Args:
        examples: All examples; ids and texts are distinct.
        counts: Wanted number of examples of each split; ``validation`` and ``test`` take pairs only.
        seed: Changes which group goes where.
        hold_out: Globs of groups that belong to ``test`` before any other.

    Raises:
        DataError: There are fewer examples than asked for; the split, and what there is, are named.
    """
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        groups[example.group].append(example)
    held = {name for name in groups if any(fnmatch.fnmatchcase(name, glob) for glob in hold_out)}
    left = sorted(groups, key=lambda name: (name not in held, _digest(seed, name)))
    splits: dict[Split, tuple[Example, ...]] = {}
    for split in _ORDER:
        wanted = counts[split]
        largest = max(1, round(wanted * _LARGEST_SHARE[split]))
        order = sorted(left, key=lambda name: name not in held and len(groups[name]) > largest)
        taken: list[Example] = []
        while order and len(taken) < wanted:
            name = order.pop(0)
            left.remove(name)
            taken.extend(example for example in groups[name] if example.query or split not in _NEEDS_QUERY)
        if len(taken) < wanted:
            kind = "query-passage pairs" if split in _NEEDS_QUERY else "texts"
            raise DataError(
                f"task.data: {wanted} {kind} were asked for the {split} split, {len(taken)} were left "
                f"({len(examples)} examples in {len(groups)} groups in all; splits never share a group)",
                f"ask for at most {len(taken)}, give more data, or more and smaller groups",
            )
        chosen = sorted(taken, key=lambda example: _digest(seed, example.id))[:wanted]
        splits[split] = tuple(sorted(chosen, key=lambda example: example.id))
    return splits


def _digest(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()
