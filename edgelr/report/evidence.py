"""The evidence word wherever a report names the device of a figure, so that none is read without it."""

from __future__ import annotations

import re
from typing import Any

Row = dict[str, Any]
_DEVICE = re.compile(r"\(([a-z0-9][a-z0-9._-]*)(?=[,)])")


def with_evidence(document: Row) -> Row:
    """Add its evidence to every device that gates, accuracy and warnings name.

    Args:
        document: What ``report.json`` is to hold; its ``devices`` say which evidence each has.

    Returns:
        A new document: ``(cpu-1t, paired)`` in a text is ``(cpu-1t, run, paired)`` in it.
    """
    words = {row["device"]: row["evidence"] for row in document["devices"]}

    def told(text: str) -> str:
        return _DEVICE.sub(lambda found: _with_word(found[0], words.get(found[1])), text)

    return {
        **document,
        "gates": [{**row, "gate": told(row["gate"])} for row in document["gates"]],
        "accuracy": [{**row, "evidence": words.get(row["device"])} for row in document["accuracy"]],
        "warnings": [told(text) for text in document["warnings"]],
    }


def _with_word(text: str, word: str | None) -> str:
    return text if word is None else f"{text}, {word}"
