"""The tensors of a pass that all of the score's gradient passes through, from the score to the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch.autograd.graph import Node

from distillgrad.errors import ModelError


def way_back(score: Node, images: Node) -> Iterator[tuple[Node, int | None]]:
    """Yield each node between score and images, after all that depend on it, and which result of it is a cut.

    A result is a cut if every way from the score to the images leads through it; ``None`` where there is one
    around the node, or several of its results are in use.

    Raises:
        ModelError: no way leads there.
    Cost: a walk through the graph.
    """
    order = _between(score, images)
    if order[0] is not score:
        raise ModelError("the model's output does not depend on the inputs: there is no gradient")
    places = set(order)
    n_open: Counter[Node] = Counter()  # edges that come from nodes already passed, by where they lead
    results: dict[Node, set[int]] = {score: {0}}
    for node in order:
        for each, n in node.next_functions:
            if each is not None and each in places:
                results.setdefault(each, set()).add(n)
    n_crossing = 0
    for node in order:
        alone = n_open[node] == n_crossing and len(results[node]) == 1
        yield node, next(iter(results[node])) if alone else None
        n_crossing -= n_open.pop(node, 0)
        for each, _ in node.next_functions:
            if each is not None and each in places:
                n_open[each] += 1
                n_crossing += 1


def _between(score: Node, images: Node) -> list[Node]:
    """Return the nodes that lie on a way from the score to the images, those that depend on others first."""
    reaches: dict[Node, bool] = {images: True}
    finished: list[Node] = [images]
    waiting: list[tuple[Node, bool]] = [(score, False)]
    while waiting:
        node, is_left = waiting.pop()
        following = [each for each, _ in node.next_functions if each is not None]
        if is_left:
            reaches[node] = any(reaches[each] for each in following)
            finished.append(node)
        elif node not in reaches:
            reaches[node] = False
            waiting.append((node, True))
            waiting.extend((each, False) for each in following if each not in reaches)
    return [node for node in reversed(finished) if reaches[node]]
