"""Everything that distillgrad raises on purpose.

::

    DistillgradError                     the root: catch this one
    ├── InputError          ValueError   inputs, baselines or attributions that cannot be explained
    ├── TargetError         ValueError   a target that the model's output does not have
    ├── ParameterError      ValueError   a parameter outside its range
    ├── ModelError          RuntimeError a model that failed, or whose gradient cannot be taken
    ├── UnknownNameError    ValueError   a method, model or class that does not exist; names the nearest
    ├── SourceError         OSError      a file that is missing, broken or not what it should be
    │   └── WriteError                   a file that cannot be written: no room, no permission
    └── MissingExtraError   ImportError  an optional package; names the extra that brings it

Each message names the thing, the reason and the mend.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DistillgradError(Exception):
    """Root of every error that distillgrad raises on purpose."""


class InputError(DistillgradError, ValueError):
    """Inputs, baselines or attributions that cannot be explained."""


class TargetError(DistillgradError, ValueError):
    """A target that the model's output does not have."""


class ParameterError(DistillgradError, ValueError):
    """A parameter outside its range."""


class ModelError(DistillgradError, RuntimeError):
    """A model that failed on its input, or whose gradient cannot be taken."""


class UnknownNameError(DistillgradError, ValueError):
    """A name that does not exist; the message lists the nearest ones that do.

    >>> str(UnknownNameError("method", "salience", ["dga", "saliency"]))
    "unknown method 'salience'; did you mean 'saliency'?"

    Args:
        kind: What is named ("method", "model", "class").
        name: What was asked for.
        known: The valid names.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        valid = list(dict.fromkeys(known))
        by_lower = {each.lower(): each for each in valid}
        near = [by_lower[match] for match in difflib.get_close_matches(name.lower(), by_lower, n=3)]
        inside = [each for each in valid if name and name.lower() in each.lower()]
        nearest = list(dict.fromkeys(near + inside))[:5]
        if nearest:
            mend = "did you mean " + ", ".join(repr(each) for each in nearest) + "?"
        else:
            first = ", ".join(valid[:20])
            mend = f"known: {first}" + (", …" if len(valid) > 20 else "")
        super().__init__(f"unknown {kind} {name!r}; {mend}")


class SourceError(DistillgradError, OSError):
    """A file that is missing, broken or not what it should be."""


class WriteError(SourceError):
    """A file that cannot be written: there is no room, or no permission."""


class MissingExtraError(DistillgradError, ImportError):
    """An optional package that is not installed.

    Args:
        package: What could not be imported.
        extra: The extra of distillgrad that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f'{package} is not installed; it comes with the extra: pip install "distillgrad[{extra}]"'
        )
