"""Every metric by name, and how those that share their passes are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, overload

from torch import Tensor

from distillgrad.core.registry import Registry
from distillgrad.errors import InputError, ParameterError
from distillgrad.metrics.base import Axis, Metric, MetricInput, Protocol, Values


def _checked(name: str, thing: Any) -> Metric:
    if not isinstance(thing, Metric):
        mend = 'say Metric(better="higher", source="…", measurement=…) of it'
        raise ParameterError(f"{name!r} is a {type(thing).__name__}, no distillgrad.metrics.Metric: {mend}")
    if thing.better not in ("higher", "lower"):
        raise ParameterError(f"the metric {name!r} must say which is better, higher or lower")
    if thing.needs not in ("attributions", "method", "masks"):
        raise ParameterError(f"the metric {name!r} must need attributions, method or masks")
    return thing


METRICS: Registry[Metric] = Registry(
    "metric",
    "distillgrad.metrics",
    {
        "lerf": "distillgrad.metrics.perturbation_curves:LERF",
        "morf": "distillgrad.metrics.perturbation_curves:MORF",
        "area_between": "distillgrad.metrics.perturbation_curves:AREA_BETWEEN",
        "sensitivity_n": "distillgrad.metrics.removal_correlation:SENSITIVITY_N",
        "noise_spearman": "distillgrad.metrics.noise:NOISE_SPEARMAN",
        "noise_ssim": "distillgrad.metrics.noise:NOISE_SSIM",
        "infidelity": "distillgrad.metrics.infidelity_and_sensitivity:INFIDELITY",
        "max_sensitivity": "distillgrad.metrics.infidelity_and_sensitivity:MAX_SENSITIVITY",
        "complexity": "distillgrad.metrics.concentration:COMPLEXITY",
        "sparseness": "distillgrad.metrics.concentration:SPARSENESS",
        "randomisation_spearman": "distillgrad.metrics.randomisation:RANDOMISATION_SPEARMAN",
        "randomisation_ssim": "distillgrad.metrics.randomisation:RANDOMISATION_SSIM",
        "stability_spearman": "distillgrad.metrics.self_stability:STABILITY_SPEARMAN",
        "stability_overlap": "distillgrad.metrics.self_stability:STABILITY_OVERLAP",
        "stability_ssim": "distillgrad.metrics.self_stability:STABILITY_SSIM",
        "pointing_game": "distillgrad.metrics.localisation:POINTING_GAME",
        "mass_inside": "distillgrad.metrics.localisation:MASS_INSIDE",
    },
    _checked,
)
"""The metrics by name; a new one is its file and a row here. A leaderboard has the mean along an axis."""


def find_metric(name: str) -> Metric:
    """Return what a metric says about itself.

    Args:
        name: One of ``METRICS`` (those of this package, registered ones, entry points in the group
            ``distillgrad.metrics``), or ``my_module:my_metric``, which is imported.
    Raises:
        UnknownNameError: no such metric; names the nearest.
        SourceError: ``my_module:my_metric`` cannot be imported.
        ParameterError: what was imported is no :class:`Metric`.
    """
    return METRICS.find(name)


@overload
def register_metric(name: str, metric: Metric) -> Metric: ...


@overload
def register_metric(
    name: str, *, better: str, source: str, **facts: Any
) -> Callable[[Callable[..., Any]], Metric]: ...


def register_metric(name: str, metric: Metric | None = None, **facts: Any) -> Any:
    """Add a metric of your own by a name, for this process; also as a decorator of what computes it.

        @dg.metrics.register_metric("inked", better="lower", source="me")
        def inked(given, protocol):
            return {name: maps.abs().mean((1, 2, 3)) for name, maps in given.attributions.items()}

    Processes that do not run this line know it as ``my_module:inked``, or by an entry point in the group
    ``distillgrad.metrics``.

    Args:
        name: What it is called from now on.
        metric: The metric; left out where this decorates its measurement.
        facts: For a decorator: the facts of the :class:`Metric`.
    Returns: The metric.
    Raises:
        ParameterError: the name is in use, or it is no :class:`Metric`.
    """

    def register(given: Metric) -> Metric:
        METRICS.register(name, given)
        return given

    return (
        register(metric) if metric is not None else lambda each: register(Metric(measurement=each, **facts))
    )


def axis_words(name: str, metrics: Iterable[str]) -> Axis:
    """Return the words of the chart of a metric or curve along its axis.

    Args:
        name: The metric's or the curve's.
        metrics: The metrics that were measured, one of which has the curve.
    """
    for each in metrics:
        metric = find_metric(each)
        if each == name:
            return metric.axis or Axis(f"{name} {metric.arrow}")
        if name in metric.curves:
            return metric.curves[name]
    return Axis(name)


def measure(names: Sequence[str], given: MetricInput, protocol: Protocol) -> dict[str, Values]:
    """Return the values of metrics that share one measurement, and the curves that it has besides.

    Args:
        names: The metrics that are wanted; what else the measurement computes of ``METRICS`` is left out.
        given: The explained images.
        protocol: How to measure.
    Raises:
        InputError: the measurement does not return values per image for each method.
    """
    computed = find_metric(names[0]).measurement(given, protocol)
    values: dict[str, Values] = {}
    for key, each in values_by_name(names, computed, given).items():
        name = next((name for name in names if key in (name, name.partition(":")[2])), key)
        if name in names or name not in METRICS:
            values[name] = each
    missing = [name for name in names if name not in values]
    if missing:
        raise InputError(
            f"its measurement returns {', '.join(values) or 'nothing'}, not {', '.join(missing)}"
        )
    return values


def values_by_name(names: Sequence[str], computed: Any, given: MetricInput) -> Mapping[str, Values]:
    """Return what a measurement returned in its most general form, checked.

    Args:
        names: The metrics that a result without a name is of.
        computed: What the measurement returned.
        given: What it was given.
    Raises:
        InputError: it has another form, or lacks values per image for a method.
    """
    values = _by_name(names, computed)
    for key, each in values.items():
        _check_values(key, each, given)
    return values


def _by_name(names: Sequence[str], computed: Any) -> Mapping[str, Values]:
    if isinstance(computed, Values):
        return dict.fromkeys(names, computed)
    if isinstance(computed, Mapping) and all(isinstance(each, Values) for each in computed.values()):
        return computed
    if isinstance(computed, Mapping) and all(isinstance(each, Tensor) for each in computed.values()):
        return dict.fromkeys(names, Values(computed))
    words = "expected Values, tensors by method, or Values by metric"
    raise InputError(f"the measurement of {', '.join(names)} returned a {type(computed).__name__}; {words}")


def _check_values(name: str, values: Values, given: MetricInput) -> None:
    shape = (len(given.inputs), len(values.axis)) if values.axis else (len(given.inputs),)
    for method in given.attributions:
        each = values.by_method.get(method)
        if not isinstance(each, Tensor) or tuple(each.shape) != shape:
            has = tuple(each.shape) if isinstance(each, Tensor) else f"a {type(each).__name__}"
            raise InputError(
                f"{name} of {method} must be a tensor {shape}, a value per image"
                f"{' and place on its axis' if values.axis else ''}; it is {has}"
            )
