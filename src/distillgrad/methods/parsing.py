"""Methods as a user writes them: ``dga, smoothgrad(n_samples=31), my_module:MyMethod(size=[3, 5])``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from torch import nn

from distillgrad.errors import ParameterError
from distillgrad.methods import create_method

MethodSpecs: TypeAlias = Mapping[str, tuple[str, Mapping[str, Any]]]
"""Methods by label: the name of each, and its parameters."""

_CALL = re.compile(r"([\w.:-]+)\s*(?:\((.*)\))?", re.DOTALL)
_PIECE = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|.""", re.DOTALL)
"""A string, whose brackets and commas are its own, or a single character."""


def parse_methods(words: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return names and parameters by label (the words of each), checked.

    >>> parse_methods("dga, smoothgrad(n_samples=31)")
    {'dga': ('dga', {}), 'smoothgrad(n_samples=31)': ('smoothgrad', {'n_samples': 31})}

    Raises:
        ParameterError: words of another form, no method, one twice, a parameter that it does not have.
        UnknownNameError: no such method; names the nearest.
        SourceError: ``my_module:MyMethod`` cannot be imported.
    """
    methods: dict[str, tuple[str, dict[str, Any]]] = {}
    for call in _calls(words.rstrip(", ")):
        match = _CALL.fullmatch(call)
        if not match:
            raise ParameterError(
                f"{call!r} is no list of methods; write for instance dga,smoothgrad(n_samples=31)"
            )
        name, parameters = match[1], _parameters(match[1], match[2] or "")
        label = method_label(name, parameters)
        if label in methods:
            raise ParameterError(f"the method {label!r} is named twice")
        create_method(name, nn.Identity(), **parameters)
        methods[label] = (name, parameters)
    if not methods:
        raise ParameterError("no method is named; 'distillgrad methods' lists them")
    return methods


def method_label(name: str, parameters: Mapping[str, Any]) -> str:
    """Return the words that name a method with its parameters, as :func:`parse_methods` reads them."""
    settings = ",".join(f"{key}={value!r}" for key, value in parameters.items())
    return f"{name}({settings})" if settings else name


def _calls(words: str) -> Iterator[str]:
    """Yield what stands between the commas that are in no brackets."""
    call, depth = "", 0
    for piece in _PIECE.findall(words):
        depth += (piece in tuple("([{")) - (piece in tuple(")]}"))
        if piece == "," and not depth:
            yield call.strip()
            call = ""
        else:
            call += piece
    if call.strip():
        yield call.strip()


def _parameters(name: str, arguments: str) -> dict[str, Any]:
    try:
        call = ast.parse(f"f({arguments})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(each.arg is None for each in call.keywords):
            raise ValueError("positional")
        return {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ParameterError(
            f"{name}({arguments}): write parameters as name=value, separated by commas"
        ) from error
