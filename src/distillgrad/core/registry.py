"""Things by name that others may add to: rows of ours, entry points, registered ones, ``module:name``."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from distillgrad.errors import ParameterError, SourceError, UnknownNameError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")
_log = logging.getLogger(__name__)


def is_import_path(name: str) -> bool:
    """Return whether a name has the form ``package.module:attribute``."""
    module, _, attribute = name.partition(":")
    return attribute.isidentifier() and all(part.isidentifier() for part in module.split("."))


def imported(path: str) -> Any:
    """Return what ``package.module:attribute`` names: the caller's own code, run because it was named.

    A module that is installed nowhere is looked for in the current folder, too, which the command's own
    ``sys.path`` lacks.

    Raises:
        SourceError: no such module, or nothing of that name in it.
    """
    module, _, attribute = path.partition(":")
    import_module(module)
    try:
        return getattr(sys.modules[module], attribute)
    except AttributeError as error:
        raise SourceError(f"cannot import {attribute} from {module}: {error}") from error


def import_module(module: str) -> None:
    """Import a module of the caller's, installed or in the current folder.

    Raises:
        SourceError: there is none, or it cannot be imported.
    """
    root = module.partition(".")[0]
    if root not in sys.modules and find_spec(root) is None and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # at the end: it hides no installed package
        importlib.invalidate_caches()
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise SourceError(
            f"cannot import {module}: {error}; install it, or work in the folder that holds {root}"
        ) from error


class Registry(Mapping[str, T], Generic[T]):
    """A lazy table: what a row names is imported when it is first looked up.

    Iteration gives this package's rows in their order, then what was registered, then installed entry points.
    Beyond them it contains the ``module:name`` of every module that is imported already: what a file from
    elsewhere names can be looked up without running code, and :meth:`find` imports what the user names.

    Args:
        kind: The word for one of them in errors.
        group: The group of entry points by which installed packages add theirs.
        rows: ``package.module:attribute`` by name.
        check: Returns what it is given under a name, or raises why that is no such thing.
    """

    def __init__(
        self, kind: str, group: str, rows: Mapping[str, str], check: Callable[[str, Any], T]
    ) -> None:
        self.kind, self.group, self.rows = kind, group, dict(rows)
        self._check = check
        self._added: dict[str, T] = {}
        self._loaded: dict[str, T] = {}

    def find(self, name: str) -> T:
        """Return what is known by a name, or what ``package.module:attribute`` imports.

        Raises:
            UnknownNameError: nothing of that name; the message lists the nearest.
            SourceError: a module that cannot be imported.
            ParameterError: it is of another kind.
        """
        if name in self:
            return self[name]
        if is_import_path(name):
            return self._check(name, imported(name))
        raise UnknownNameError(self.kind, name, self)

    def register(self, name: str, thing: T) -> None:
        """Add a thing for as long as this process lives.

        Raises:
            ParameterError: the name is in use or no word, or the thing is of another kind.
        """
        if name in self:
            raise ParameterError(f"the {self.kind} {name!r} exists already: choose another name")
        if not name.replace("-", "_").isidentifier():
            raise ParameterError(f"{name!r} cannot name a {self.kind}: use letters, digits, '_' and '-'")
        self._added[name] = self._check(name, thing)

    def unregister(self, name: str) -> None:
        """Take out again what :meth:`register` added.

        Raises:
            UnknownNameError: nothing was registered by that name.
        """
        if name not in self._added:
            raise UnknownNameError(f"registered {self.kind}", name, self._added)
        del self._added[name]

    def __getitem__(self, name: str) -> T:
        if name in self._added:
            return self._added[name]
        if name not in self._loaded:
            if name in self.rows:
                thing = _attribute_of(self.rows[name])
            elif _is_imported(name):
                thing = _attribute_of(name)
            else:
                thing = _from_entry_point(self._entry_points[name])
            self._loaded[name] = self._check(name, thing)
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self.rows, **self._added, **self._entry_points})

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        if name in self.rows or name in self._added or name in self._entry_points:
            return True
        return isinstance(name, str) and _is_imported(name)

    @cached_property
    def _entry_points(self) -> dict[str, EntryPoint]:
        """The entry points of installed packages, by name; this package's own names stay its own."""
        from importlib.metadata import entry_points  # late: it is slow to import

        offered = {each.name: each for each in entry_points(group=self.group)}
        for name in self.rows.keys() & offered.keys():
            _log.warning("%s is not used: the %s %r exists already", offered[name].value, self.kind, name)
        return {name: each for name, each in offered.items() if name not in self.rows}


def _attribute_of(path: str) -> Any:
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _is_imported(name: str) -> bool:
    module, _, attribute = name.partition(":")
    return is_import_path(name) and hasattr(sys.modules.get(module), attribute)


def _from_entry_point(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        package = entry.dist.name if entry.dist else "a package"
        raise SourceError(
            f"cannot import {entry.value}, which {package} offers as {entry.name!r}: {error}; "
            "mend or uninstall it"
        ) from error
