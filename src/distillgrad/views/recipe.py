"""The Python and the command line that give the arrays of an explanation."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from distillgrad.explanations.explanation import Explanation
from distillgrad.methods import find_method
from distillgrad.sources.value_range import ValueRange, written

SAMPLE = "chelsea.png"
_SAMPLE_IN_PYTHON = "dg.sample_photograph()"
_SAMPLE_IN_SHELL = "\"$(python -c 'import distillgrad as dg; print(dg.sample_photograph())')\""


def python_for(
    explanation: Explanation,
    image: str | None,
    model: str,
    sides: Sequence[Explanation] = (),
    value_range: ValueRange | None = None,
) -> str:
    """Return a script that leaves the attributions in ``maps``.

    Args:
        image: The file's name; ``None`` for the sample photograph.
        value_range: The file's values that were shown black and white, where they were said.
        sides: Explanations of single classes, which it leaves in ``alone``, by class and method.
    """
    named = _SAMPLE_IN_PYTHON if image is None else repr(image)
    shown = "" if value_range is None else f", value_range=({written(value_range).replace(',', ', ')})"
    target, name = str(explanation.target), explanation.target_name
    if explanation.versus is not None:
        target = f"dg.logit_difference({explanation.target}, {explanation.versus})"
        name = f"{name} rather than {explanation.versus_name}"
    name = " ".join(name.split())  # a comment ends where its line does
    lines = [
        "import distillgrad as dg",
        "",
        f"loaded = dg.load_model({model!r})",
        f"inputs = loaded.preprocess(dg.read_image({named}{shown}))[None]",
        f"target = {target}  # {name}",
    ]
    if explanation.acceleration:
        settings = "".join(f", {key}={value!r}" for key, value in explanation.acceleration.items())
        lines.append(f"fast = dg.accelerate(loaded.model, inputs{settings})")
    lines.append("maps = {}")
    lines += [
        f"maps[{method!r}] = {_call(explanation, method)}.attribute(inputs, target)"
        for method in explanation.methods
    ]
    if sides:
        lines += ["alone = {}", f"for each in {tuple(side.target for side in sides)}:"]
        lines += [
            f"    alone[each, {method!r}] = {_call(explanation, method)}.attribute(inputs, each)"
            for method in explanation.methods
        ]
    return "\n".join(lines) + "\n"


def commands_for(
    explanation: Explanation,
    image: str | None,
    model: str,
    sides: Sequence[Explanation] = (),
    value_range: ValueRange | None = None,
) -> str:
    """Return the commands that write the same arrays, those of ``sides`` into folders of their own."""
    lines = [command_for(explanation, image, model, value_range)]
    lines += [
        f"{command_for(side, image, model, value_range)} --out explanations/class-{side.target}"
        for side in sides
    ]
    return "\n".join(lines)


def command_for(
    explanation: Explanation, image: str | None, model: str, value_range: ValueRange | None = None
) -> str:
    """Return the command that writes the same arrays into the folder ``explanations``."""
    if image is not None and image.startswith("-"):
        image = f"./{image}"  # it would be taken for an option
    words = ["distillgrad explain", _SAMPLE_IN_SHELL if image is None else shlex.quote(image)]
    methods = ",".join(_named(*each) for each in explanation.methods.values())
    words += [f"--model {shlex.quote(model)}", f"--target {explanation.target}"]
    words.append(f"--methods {shlex.quote(methods)}")
    if explanation.versus is not None:
        words.append(f"--versus {explanation.versus}")
    if value_range is not None:
        words.append(f"--value-range {written(value_range)}")
    if explanation.acceleration:
        words += ["--accelerate", f"--precision {explanation.acceleration['precision']}"]
    return " ".join(words)


def _named(method: str, parameters: Mapping[str, Any]) -> str:
    """Return the method with its parameters, as ``--methods`` takes them."""
    settings = ",".join(f"{key}={value!r}" for key, value in parameters.items())
    return f"{method}({settings})" if settings else method


def _call(explanation: Explanation, method: str) -> str:
    name, parameters = explanation.methods[method]
    words = "".join(f", {key}={value!r}" for key, value in parameters.items())
    model = "fast" if explanation.acceleration and not find_method(name).layerwise else "loaded.model"
    return f"dg.create_method({name!r}, {model}{words})"
