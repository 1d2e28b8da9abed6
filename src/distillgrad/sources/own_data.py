"""Images from a function of the user's own, by module or by entry point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from typing import Any

from distillgrad.core.registry import Registry, is_import_path
from distillgrad.errors import ParameterError, SourceError
from distillgrad.sources.image_data import ImageData


def _checked(name: str, thing: Any) -> Callable[[], ImageData]:
    try:
        signature(thing).bind()
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{name} is no function without arguments that makes data: {error}") from error
    made: Callable[[], ImageData] = thing
    return made


DATA: Registry[Callable[[], ImageData]] = Registry("data set", "distillgrad.data", {}, _checked)
"""Functions without arguments that return data, by name."""


def recognises(where: str) -> bool:
    """Return whether the words name an entry point or have the form ``module:function``."""
    return where in DATA or is_import_path(where)


def may_run_code(where: str) -> bool:
    """Return whether opening data by these words would import a module that is not imported yet."""
    return is_import_path(where) and where not in DATA


def open_at(where: str, limit: int | None, keep_broken: bool) -> ImageData:
    """Return what the function makes, at most the first so many images.

    Args:
        where: The function's name.
        limit: At most so many images.
        keep_broken: Left to the function, which does not know it.
    Raises:
        SourceError: it cannot be imported, or makes something else.
        ParameterError: it is no function without arguments.
    """
    data = DATA.find(where)()
    if not isinstance(data, ImageData):
        raise SourceError(f"{where} returned a {type(data).__name__}; expected distillgrad's ImageData")
    first = data if limit is None or limit >= len(data) else data.part(range(limit))
    return replace(first, name=where)
