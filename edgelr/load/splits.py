"""Split examples by group, so that train, calibration, validation and test never share one."""

from __future__ import annotations

import fnmatch
import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from edgelr.artifacts import Split
from edgelr.errors import DataError
from edgelr.examples import Row

# The order in which splits take their groups: the test first, so that the others' sizes never change it.
_ORDER: tuple[Split, ...] = ("test", "validation", "calibration", "train")
_SCORED: frozenset[Split] = frozenset({"test", "validation"})
# Groups up to this share of a split go first; calibration wants variety more than anything.
_LARGEST_SHARE: dict[Split, float] = {"test": 0.1, "validation": 0.1, "calibration": 0.04, "train": 1.0}


def split_by_group(
    examples: Sequence[Row],
    counts: Mapping[Split, int],
    *,
    seed: int,
    hold_out: Sequence[str] = (),
    train_only: Sequence[str] = (),
) -> dict[Split, tuple[Row, ...]]:
    """Split ``examples`` into disjoint groups, deterministically.

    Groups are put into an order that depends only on their name and ``seed``; each split takes whole groups
    until it has its count, small ones first, so that no module is most of a test; ``train`` takes what is
    left. The result does not depend on the order of ``examples``.

    Args:
        examples: All examples; ids are distinct.
        counts: Wanted number of examples of each split; ``validation`` and ``test`` take pairs only.
        seed: Changes which group goes where.
        hold_out: Globs of groups that are test data in any case, also when the test needs fewer.
        train_only: Globs of groups that no other split takes, so that more text to train on changes no test.

    Raises:
        DataError: There are fewer examples than asked for (the split, and what there is, are named), or a
            glob of ``hold_out`` or ``train_only`` fits no group, or both one.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for example in examples:
        groups[example.group].append(example)
    held, trained = (
        _fitting(groups, *globs) for globs in (("hold_out", hold_out), ("train_only", train_only))
    )
    if both := sorted(held & trained):
        raise DataError(f"task.data: hold_out and train_only both fit '{both[0]}'", "take it out of one")
    left = sorted(groups, key=lambda name: (name not in held, _digest(seed, name)))
    splits: dict[Split, tuple[Row, ...]] = {}
    for split in _ORDER:
        wanted = counts[split]
        largest = max(1, round(wanted * _LARGEST_SHARE[split]))
        free = left if split == "train" else [name for name in left if name not in trained]
        order = sorted(free, key=lambda name: name not in held and len(groups[name]) > largest)
        taken: list[Row] = []
        while order and (len(taken) < wanted or order[0] in held):
            name = order.pop(0)
            left.remove(name)
            taken.extend(example for example in groups[name] if example.scored or split not in _SCORED)
        if len(taken) < wanted:
            raise _too_few(split, wanted, len(taken), len(examples), len(groups))
        chosen = sorted(taken, key=lambda example: _digest(seed, example.id))[:wanted]
        splits[split] = tuple(sorted(chosen, key=lambda example: example.id))
    return splits


def _fitting(groups: Mapping[str, object], key: str, globs: Sequence[str]) -> set[str]:
    fitting = {glob: [name for name in groups if fnmatch.fnmatchcase(name, glob)] for glob in globs}
    idle = [glob for glob, names in fitting.items() if not names]
    if idle:
        raise DataError(
            f"task.data.{key}: no group of the data fits {', '.join(map(repr, idle))} "
            f"({len(groups)} groups; a module written in C has no source to read)",
            f"take it out; groups are named like '{min(groups)}'" if groups else "take it out",
        )
    return {name for names in fitting.values() for name in names}


def _too_few(split: Split, wanted: int, found: int, examples: int, groups: int) -> DataError:
    kind = "pairs" if split in _SCORED else "texts"
    return DataError(
        f"task.data: {wanted} {kind} were asked for the {split} split, {found} were left "
        f"({examples} examples in {groups} groups in all; splits never share a group)",
        (f"ask for at most {found}, " if found else "") + "give more data, or more and smaller groups",
    )


def _digest(seed: int, text: str) -> str:
    return hashlib.sha256(f"{seed}:{text}".encode()).hexdigest()
