"""Methods as a user writes them: ``dga, smoothgrad(n_samples=31), guided_ig(n_steps=50)``."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from torch import nn

from distillgrad.errors import ParameterError
from distillgrad.methods import create_method

MethodSpecs: TypeAlias = Mapping[str, tuple[str, Mapping[str, Any]]]
"""By label, a method's name and parameters."""

_CALL = re.compile(r"\s*([\w-]+)\s*(?:\(([^()]*)\))?\s*(?:,|$)")


def parse_methods(words: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Names and parameters by label (the words of each), checked.

    >>> parse_methods("dga, smoothgrad(n_samples=31)")
    {'dga': ('dga', {}), 'smoothgrad(n_samples=31)': ('smoothgrad', {'n_samples': 31})}

    Raises:
        ParameterError: words of another form, no method, one twice, a parameter that it does not have.
        UnknownNameError: no such method; names the nearest.
    """
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    position = 0
    while position < len(words.rstrip(", ")):
        match = _CALL.match(words, position)
        if not match:
            raise ParameterError(
                f"{words[position:].strip()!r} is no list of methods; write for instance "
                "dga,smoothgrad(n_samples=31)"
            )
        name, arguments = match[1], match[2]
        parameters = _parameters(name, arguments or "")
        settings = ",".join(f"{key}={value!r}" for key, value in parameters.items())
        label = f"{name}({settings})" if settings else name
        if label in found:
            raise ParameterError(f"the method {label!r} is named twice")
        create_method(name, nn.Identity(), **parameters)
        found[label] = (name, parameters)
        position = match.end()
    if not found:
        raise ParameterError("no method is named; 'distillgrad methods' lists them")
    return found


def _parameters(name: str, arguments: str) -> dict[str, Any]:
    try:
        call = ast.parse(f"f({arguments})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("positional")
        return {str(each.arg): ast.literal_eval(each.value) for each in call.keywords if each.arg}
    except (SyntaxError, ValueError) as error:
        raise ParameterError(
            f"{name}({arguments}): write parameters as name=value, separated by commas"
        ) from error
