"""A callable target that may hold something for each row, asked for the score of some of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from distillgrad.core.forward import is_out_of_memory
from distillgrad.errors import TargetError

ALIKE = 1e-3
"""Scores of the same row that differ by less, relatively, differ by rounding."""


class RowScore:
    """A callable target of a batch that is right for any rows of it, also if it holds a label for each.

    Such a target, ``lambda out: out[torch.arange(len(out)), labels]``, takes the output of all rows and no
    other. Where rows come in chunks it is therefore asked about all places at once, each row's output
    standing at every place, of which the row's own counts. Whether it holds something by place is found out
    at the first chunk, of a row at random that stands at every place: most targets do not, and get the
    chunk's output as it is.

    Args:
        score: The caller's.
        n_rows: All rows of the batch that it is for.
    """

    def __init__(self, score: Callable[[Any], Tensor], n_rows: int) -> None:
        self._score = score
        self._n_rows = n_rows
        self._places: tuple[int, ...] | None = None
        self._by_place: list[bool] = []  # shared by all that are cut from this one

    def rows(self, chosen: slice | Tensor) -> RowScore:
        """Return the target of the rows of a slice or of an index tensor."""
        places = torch.arange(self._n_rows) if self._places is None else torch.tensor(self._places)
        cut = copy.copy(self)
        cut._places = tuple(places[chosen if isinstance(chosen, slice) else chosen.cpu()].tolist())
        return cut

    def __call__(self, output: Any) -> Tensor:
        """Return the scores of the rows whose output this is.

        Raises:
            TargetError: the target holds something by place, and the output cannot be taken apart.
        """
        places = self._places
        if places is None or places == tuple(range(self._n_rows)):
            return self._score(output)
        if not self._by_place:
            self._by_place.append(self._holds_by_place(output, len(places)))
        if not self._by_place[0]:
            return self._score(output)
        return torch.stack(
            [
                self._score(self._everywhere(output, row, len(places)))[place]
                for row, place in enumerate(places)
            ]
        )

    def _holds_by_place(self, output: Any, n: int) -> bool:
        """Return whether one row's score depends on the place where it stands, or needs all places."""
        with torch.no_grad():
            scores = self._tried(self._everywhere(_whole(output, _noisy), 0, n))
            if scores is None or scores.shape != (self._n_rows,):
                return False  # it will tell of itself when it is asked in earnest
            if not torch.allclose(scores, scores[:1].expand_as(scores), rtol=ALIKE):
                return True
            few = self._tried(output)
            return few is None or few.shape != (n,)

    def _tried(self, output: Any) -> Tensor | None:
        """Return the caller's scores, ``None`` where there are none to be had of this output."""
        try:
            scores = self._score(output)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return None
        return scores if isinstance(scores, Tensor) else None

    def _everywhere(self, output: Any, row: int, n: int) -> Any:
        """Return the output of one of ``n`` rows at every place of the whole batch; takes no memory."""

        def spread(values: Tensor) -> Tensor:
            if not values.ndim or len(values) != n:
                return values
            return values[row : row + 1].expand(self._n_rows, *values.shape[1:])

        return _whole(output, spread)


def _noisy(values: Tensor) -> Tensor:
    """Return values that no two classes share, the same for each row."""
    if not values.is_floating_point() or not values.ndim:
        return values
    noise = torch.rand(values.shape[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    largest = values.detach().abs().max().clamp(min=1)
    return values + noise.to(values) * largest


def _whole(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a model's output with each tensor in it changed."""
    known = isinstance(output, Tensor | tuple | list | Mapping)
    return _mapped(output, change) if known else _object_mapped(output, change)


def _mapped(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return tensors changed, in the collections in which they lie; anything else as it is."""
    if isinstance(output, Tensor):
        return change(output)
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*(_mapped(each, change) for each in output))
    if isinstance(output, tuple | list):
        return type(output)(_mapped(each, change) for each in output)
    if isinstance(output, Mapping):
        changed = copy.copy(output)
        for name, value in output.items():
            changed[name] = _mapped(value, change)  # type: ignore[index]  # a ModelOutput can be written to
        return changed
    return output


def _object_mapped(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a copy of an object that holds a model's output, with each tensor changed."""
    if not hasattr(output, "__dict__"):
        raise TargetError(
            f"a callable target may hold a label for each row, and a {type(output).__name__} from the model "
            "cannot be taken apart to see whether it does; give class numbers as target=, or all rows at once"
        )
    changed = copy.copy(output)
    for name, value in vars(output).items():
        object.__setattr__(changed, name, _mapped(value, change))
    return changed
