"""Requests of runs in their manifests: written and read by the fields of their dataclasses.

A field is kept under its own name, or where its metadata (:func:`kept_at`) says. An option that came after a
run was begun has the field's default in it. So an option is one field, and nothing more.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from types import MappingProxyType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from distillgrad.errors import SourceError
from distillgrad.methods.parsing import MethodSpecs
from distillgrad.metrics.removal import Baseline

Request = TypeVar("Request")
Tree = dict[str, Any]

_KEPT_AT = "kept at"


@dataclass(frozen=True)
class _Kept:
    path: tuple[str, ...]
    encode: Callable[[Any], Any]


def kept_at(*path: str, encode: Callable[[Any], Any] | None = None) -> Mapping[str, _Kept]:
    """Return the metadata of a field that a manifest keeps under these keys, one inside the other.

    Args:
        path: The keys; none at all for a field that is not kept.
        encode: Turns the field's value into what JSON holds, where that is not the usual form.
    """
    return MappingProxyType({_KEPT_AT: _Kept(path, encode or to_json)})


def to_manifest(request: Any) -> Tree:
    """Return the request as a manifest holds it."""
    tree: Tree = {}
    for each, kept in _kept_fields(type(request)):
        _put(tree, kept.path, kept.encode(getattr(request, each.name)))
    return tree


def from_manifest(kind: type[Request], manifest: Mapping[str, Any]) -> Request:
    """Return the request that a manifest holds.

    Raises:
        SourceError: the manifest lacks a field that has no default.
    """
    hints = get_type_hints(kind)
    values = {}
    for each, kept in _kept_fields(kind):
        value = _get(manifest, kept.path)
        if value is not MISSING:
            values[each.name] = _from_json(hints[each.name], value)
        elif each.default is MISSING and each.default_factory is MISSING:
            raise SourceError(f"the manifest of the run lacks {'.'.join(kept.path)}")
    return kind(**values)


def with_defaults(kind: type[Any], manifest: Mapping[str, Any]) -> Tree:
    """Return the manifest, completed by the defaults of the options that came after it was written."""
    defaults: Tree = {}
    for each, kept in _kept_fields(kind):
        if each.default is not MISSING:
            _put(defaults, kept.path, kept.encode(each.default))
        elif each.default_factory is not MISSING:
            _put(defaults, kept.path, kept.encode(each.default_factory()))
    return merged(manifest, defaults)


def merged(*trees: Mapping[str, Any]) -> Tree:
    """Return all that the trees hold, key by key; where several hold a value, the first one's."""
    whole: Tree = {}
    for tree in trees:
        for key, value in tree.items():
            if key not in whole:
                whole[key] = merged(value) if isinstance(value, Mapping) else value
            elif isinstance(whole[key], Mapping) and isinstance(value, Mapping):
                whole[key] = merged(whole[key], value)
    return whole


def as_read_back(manifest: Mapping[str, Any]) -> Tree:
    """Return the manifest as JSON reads it back, where tuples are lists."""
    content: Tree = json.loads(json.dumps(manifest))
    return content


def to_json(value: Any) -> Any:
    """Return a field's value in the usual form: mappings, lists, numbers and words."""
    if is_dataclass(value):
        return to_manifest(value)
    if isinstance(value, Tensor):
        return json_list(value)
    if isinstance(value, Mapping):
        return {str(key): to_json(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(each) for each in value]
    return value


def json_list(values: Tensor) -> list[Any]:
    """Return the numbers as JSON has them: those that are not finite are null."""

    def finite(value: Any) -> Any:
        if isinstance(value, list):
            return [finite(each) for each in value]
        return value if math.isfinite(value) else None

    numbers: list[Any] = finite(values.detach().double().cpu().tolist())
    return numbers


def methods_by_keys(methods: MethodSpecs) -> Tree:
    """Return methods by label, each as ``{"name": …, "parameters": …}`` instead of the usual pair."""
    return {
        label: {"name": name, "parameters": to_json(parameters)}
        for label, (name, parameters) in methods.items()
    }


def _from_json(hint: Any, value: Any) -> Any:
    """The value of a field whose type is ``hint``."""
    if hint == MethodSpecs:
        pairs = {
            label: (each["name"], each["parameters"]) if isinstance(each, Mapping) else each
            for label, each in value.items()
        }
        return {label: (name, dict(parameters)) for label, (name, parameters) in pairs.items()}
    if is_dataclass(hint) and isinstance(hint, type):
        return from_manifest(hint, value)
    if hint == Baseline and isinstance(value, list):
        return torch.tensor(value, device="cpu")
    if isinstance(value, list) and any(get_origin(each) is tuple for each in (hint, *get_args(hint))):
        return tuple(value)
    return value


def _kept_fields(kind: type[Any]) -> Iterator[tuple[Field[Any], _Kept]]:
    """The fields that a manifest keeps, each with where and how."""
    for each in fields(kind):
        kept = each.metadata.get(_KEPT_AT, _Kept((each.name,), to_json))
        if kept.path:
            yield each, kept


def _put(tree: Tree, path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = value


def _get(tree: Any, path: tuple[str, ...]) -> Any:
    """The value under the keys, ``MISSING`` where there is none."""
    for key in path:
        if not isinstance(tree, Mapping) or key not in tree:
            return MISSING
        tree = tree[key]
    return tree
