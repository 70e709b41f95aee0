"""Every way edgelr can fail on purpose, one class an exit code.

A message says what was found, where, and what to do next. Anything that is not an
``EdgelrError`` is a bug: exit code 1, with the traceback in a log file.
"""

from __future__ import annotations

from typing import ClassVar


class EdgelrError(Exception):
    """Base of all expected failures; ``exit_code`` is what the command line ends with.

    Args:
        found: What was found and where, one sentence without a final full stop needed.
        hint: What to do next; None for what errors of its kind usually need, or when ``found`` says it.
    """

    exit_code: ClassVar[int]
    meaning: ClassVar[str]
    usual_hint: ClassVar[str | None] = None

    def __init__(self, found: str, hint: str | None = None) -> None:
        hint = hint or self.usual_hint
        super().__init__(found if hint is None else f"{found}\n  {hint}")
        self.found = found
        self.hint = hint


class UsageError(EdgelrError):
    """A recipe, a device profile or a command line that cannot be meant."""

    exit_code = 2
    meaning = "usage, recipe or profile fault"


class MissingRequirementError(EdgelrError):
    """An extra, an execution provider or a program that is not installed; the hint is the install command."""

    exit_code = 3
    meaning = "a missing extra, provider or program"


class UnsupportedModelError(EdgelrError):
    """A model or layer that cannot be handled: no weights, missing keys, non-finite weights, unknown type."""

    exit_code = 4
    meaning = "a model or layer this cannot handle"


class DataError(EdgelrError):
    """Data that is missing, empty, too small or malformed."""

    exit_code = 5
    meaning = "data missing, empty or malformed"


class DivergedError(EdgelrError):
    """Training produced a non-finite loss."""

    exit_code = 6
    meaning = "training diverged (non-finite loss)"


class ExportError(EdgelrError):
    """The ONNX export failed, or torch and ONNX disagree."""

    exit_code = 7
    meaning = "export failed, or torch and ONNX disagree"
    usual_hint = "please report the model"


class QuantizeError(EdgelrError):
    """Quantization failed, or its result is too far from what went in."""

    exit_code = 8
    meaning = "quantization failed"
    usual_hint = "choose another scheme for it with quantize.layers, and please report the model"


class GateError(EdgelrError):
    """The build is done, and at least one of the recipe's gates is not met."""

    exit_code = 9
    meaning = "a gate failed"


class LatencyRegressionError(EdgelrError):
    """A comparison found a latency regression."""

    exit_code = 10
    meaning = "latency regression found"


class InconclusiveError(EdgelrError):
    """A comparison could not have seen the tolerance with this noise in this time."""

    exit_code = 11
    meaning = "comparison inconclusive"


class DamagedArtifactError(EdgelrError):
    """An artifact or package whose files do not match its manifest or schema."""

    exit_code = 12
    meaning = "a damaged artifact (hash or schema)"
    usual_hint = "get it again, or delete it and build it again"


class StorageError(EdgelrError):
    """A folder that cannot be written: read-only, or the disk is full."""

    exit_code = 13
    meaning = "nothing can be written (read-only folder, full disk)"


class InterruptedBuildError(EdgelrError):
    """Ctrl-C; everything finished so far is kept and the next run resumes."""

    exit_code = 130
    meaning = "interrupted; the next run resumes"
