"""The pages that are made of the registries: one per method and one per metric, and their tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

from torch import nn

from distillgrad import metrics as public
from distillgrad.methods import METHODS
from distillgrad.methods.base import Method
from distillgrad.metrics import METRICS, Metric
from measured import leaderboards

DOCS = Path(__file__).resolve().parents[1]
RESULTS = DOCS / "results"

WORDS = {
    "attributions": "the attributions alone",
    "method": "the method itself, which explains other inputs or models",
    "masks": "where the object is: boxes or masks",
}


def summary(described: Any) -> str:
    """The first line of a docstring, whose roles and double backticks become plain Markdown."""
    return str(described.__doc__).strip().partition("\n")[0].replace("``", "`")


def yes(value: bool) -> str:
    return "yes" if value else "no"


def methods_index() -> str:
    """The table of all methods."""
    rows = [
        f"| [`{name}`]({name}.md) | {summary(method)} | {method.cost} | {yes(method.signed)} "
        f"| {method.result} |"
        for name, method in METHODS.items()
    ]
    head = (DOCS / "make" / "methods.md").read_text(encoding="utf-8")
    return head.replace(
        "<!-- table -->",
        "\n".join(
            [
                "| name | what it attributes | cost per image | signed | values for |",
                "|---|---|---|---|---|",
                *rows,
            ]
        ),
    )


def method_page(name: str) -> str:
    """One method: facts of its class, a picture, how it is called, its docstring, what was measured."""
    method = METHODS[name]
    path = f"{method.__module__}.{method.__qualname__}"
    units = "of the score" if method.multiplies_by_inputs else "its own, see below"
    facts = {
        "cost per image": method.cost,
        "passes by default": f"{_n_passes(method):,}",
        "values for": f"{method.result}, "
        + ("`(N, 1, H, W)`" if method.result == "pixels" else "the inputs' shape"),
        "signed": yes(method.signed) + (": negative speaks against" if method.signed else ""),
        "units": units,
        "depends on how the network is cut into layers": yes(method.layerwise),
        "model": "an `nn.Module`" if method.needs_module else "any callable from inputs to logits",
        "source": method.source,
    }
    return "\n".join(
        [
            f"---\ntitle: {name}\n---\n\n# `{name}`\n",
            *_picture(name),
            "| | |\n|---|---|",
            *(f"| {key} | {value} |" for key, value in facts.items()),
            "",
            method_example(name),
            f"::: {path}\n",
            *_measured(name),
        ]
    )


def method_example(name: str) -> str:
    """How the method is called, in Python and from the command line."""
    return f"""=== "Python"

    ```python
    import distillgrad as dg

    loaded = dg.load_model("cifar10-cnn")  # or torchvision:…, timm:…, hf:…, your.module:function
    images = loaded.preprocess(dg.read_image("cat.jpg"))[None]
    attributions = dg.create_method("{name}", loaded.model).attribute(images)
    ```

=== "Command line"

    ```sh
    distillgrad explain cat.jpg --methods {name}
    ```
"""


def metrics_index() -> str:
    """The table of all metrics."""
    rows = [
        f"| [`{name}`]({name}.md) | {metric.better} | {metric.cost} | {metric.needs} | {metric.source} |"
        for name, metric in METRICS.items()
    ]
    head = (DOCS / "make" / "metrics.md").read_text(encoding="utf-8")
    return head.replace(
        "<!-- table -->",
        "\n".join(
            ["| name | better | cost per image and method | needs | source |", "|---|---|---|---|---|", *rows]
        ),
    )


def metric_page(name: str) -> str:
    """One metric: its facts in the registry, how it is computed, the docstrings of what computes it."""
    metric = METRICS[name]
    with_it = [
        each for each, other in METRICS.items() if other.measurement is metric.measurement and each != name
    ]
    shared = ", ".join(f"[`{each}`]({each}.md)" for each in with_it) or "no other"
    facts = {
        "better": metric.better,
        "cost per image and method": metric.cost,
        "needs": WORDS[metric.needs],
        "shares its passes with": shared,
        "source": metric.source,
    }
    first = next(each for each, other in METRICS.items() if other.measurement is metric.measurement)
    options = "" if first == name else "    options:\n      skip_local_inventory: true\n"
    return "\n".join(
        [
            f"---\ntitle: {name}\n---\n\n# `{name}`\n",
            "| | |\n|---|---|",
            *(f"| {key} | {value} |" for key, value in facts.items()),
            "\nWhat it says and what it cannot say: [concepts](../concepts/metrics.md).\n",
            f"```sh\n{metric_example(name)}\n```\n",
            *(f"::: {path}\n{options}" for path in computed_by(metric)),
        ]
    )


def metric_example(name: str) -> str:
    """The command that computes the metric."""
    data = "boxes" if METRICS[name].needs == "masks" else "photos"
    return f"distillgrad evaluate {data} --methods dga,random --metrics {name}"


def computed_by(metric: Metric) -> list[str]:
    """The public functions that a metric's measurement calls, by their full names.

    Raises:
        LookupError: it calls none, so that its page would describe nothing.
    """
    known = metric.measurement.__globals__
    called = [known[each] for each in sorted(set(_names(metric.measurement.__code__))) if each in known]
    functions = [each for each in called if getattr(public, getattr(each, "__name__", ""), None) is each]
    paths = [f"{each.__module__}.{each.__name__}" for each in functions if each]
    if not paths:
        raise LookupError(
            f"{metric.measurement} calls no function of distillgrad.metrics that could be described"
        )
    return paths


def _names(code: CodeType) -> Iterator[str]:
    """Global names that a function uses, those of its comprehensions included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _n_passes(method: type[Method]) -> int:
    return method(nn.Identity()).n_passes


def _picture(name: str) -> list[str]:
    if not (DOCS / "images" / "methods" / f"{name}.webp").is_file():
        return []
    return [
        f"![The photograph of a cat, the heat map of {name} and the 10 % of the pixels that it ranks highest]"
        f"(../images/methods/{name}.webp){{ .strip }}\n"
    ]


def _measured(name: str) -> list[str]:
    """The rows of this method in the leaderboards of the results pages."""
    found = [
        (table, label, row)
        for table in leaderboards(RESULTS, tuple(METRICS))
        for label, row in table.rows.items()
        if label.partition("(")[0] == name
    ]
    if not found:
        return []
    columns = [each for each in METRICS if any(each in table.columns for table, _, _ in found)]
    lines = [
        "## Measured\n",
        "| data | as | " + " | ".join(columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for table, label, row in found:
        values = [row[table.columns.index(each)] if each in table.columns else "–" for each in columns]
        lines.append(f"| [{table.heading}](../results/{table.page}) | `{label}` | {' | '.join(values)} |")
    return [
        *lines,
        "\n`*`: significantly worse than the best method of that run; in rows from "
        "[the paper made anew](../results/paper.md): significantly different from DGA.\n",
    ]
