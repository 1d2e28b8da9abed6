"""An equivalent, faster model, compared with the original: what cannot be checked is not done."""

from __future__ import annotations

import copy
import warnings
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from distillgrad.core.acceleration.accelerated import Accelerated
from distillgrad.core.acceleration.batch_norm_folding import LINEAR, Pair, fold, foldable
from distillgrad.core.acceleration.data_flow import DataFlow, data_flow, plain
from distillgrad.core.acceleration.prepacked_layer import PrepackedLayer, multiplies_bfloat16
from distillgrad.core.acceleration.prepacked_linear import PrepackedLinear
from distillgrad.core.acceleration.prepacking import prepack
from distillgrad.core.acceleration.relu_fusion import fuse_relus_if_exact
from distillgrad.core.batch import Batch, checked_batch, outside_inference_mode
from distillgrad.core.equivalence import (
    EXACT,
    Response,
    difference,
    in_float64,
    probe_of,
    response,
    rounding,
    sound_response,
)
from distillgrad.core.eval_mode import evaluating
from distillgrad.core.forward import Model
from distillgrad.core.profiling import elapsed
from distillgrad.core.working_copy import copied
from distillgrad.core.wrappers import unwrapped
from distillgrad.errors import InputError, ModelError, ParameterError, UnknownNameError

Precision: TypeAlias = Literal["float32", "bfloat16"]

PAYS = 0.95
"""The layout is changed only if a pass then takes at most so much of its time."""
MOST_TURNS = 7
"""Layouts are timed twice, in turns, and so often where the two disagree: no slow moment decides for good."""


def accelerate(
    model: Model,
    example_inputs: Tensor | tuple[Tensor, ...],
    *,
    precision: Precision = "float32",
    compile: bool = False,
    channels_last: bool | None = None,
) -> Accelerated:
    """Return a frozen copy in eval mode that computes the same, faster; the model itself stays as it is.

    Batch norms become part of the layer before where the data flow shows that this alone feeds them and
    logits and gradients in float64 stay the same to 1e-9; on CPUs convolutions compute the ReLU that follows
    (:mod:`~distillgrad.core.acceleration.relu_fusion`), and the weights of convolutions and linear layers
    are laid out for the processor once (:mod:`~distillgrad.core.acceleration.prepacking`); the memory layout
    changes if that measures faster.
    The result is then compared with the model on the examples and on jittered ones. It is the same function,
    rounded otherwise, so gradient methods are unaffected. Methods that look at layers see the changed ones,
    and need the original: FullGrad (a convolution's bias and its batch norm's become one term), Grad-CAM (its
    last convolution now contains the batch norm, and the ReLU), LRP.

    Args:
        model: A plain ``nn.Module`` (not compiled or scripted) from ``(N, …)`` to logits.
        example_inputs: Of the size that is to be fast; or ``(inputs, *further tensors)``.
        precision: ``"float32"``, in fact the model's own, or ``"bfloat16"``: autocast of a float32 model,
            which returns logits in float32; its gradients are off by some 20 %. A warning says so where a
            processor emulates it.
        compile: Also ``torch.compile`` the copy. Slower on CPUs; untried on GPUs.
        channels_last: Whether to lay 4-d tensors out so; ``None`` measures, and runs may round differently.

    Raises:
        ModelError: no plain module; random, or dependent on the other rows of a batch; the result is not the
            model's, and by how much.
        InputError, ParameterError, UnknownNameError: examples or options that cannot be.
    Cost: some ten passes of the examples, twenty where the memory layout matters little; for folding two of
        three rows in float64. The memory of the weights, those laid out up to three times. Not while
        another thread calls a model: ``torch.fx`` patches ``nn.Module`` meanwhile.
    """
    if precision not in ("float32", "bfloat16"):
        raise UnknownNameError("precision", str(precision), ("float32", "bfloat16"))
    batch = _checked(example_inputs, precision, channels_last)
    module = unwrapped(model)
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"accelerate changes layers, and a {type(model).__name__} has none; give an nn.Module"
        )
    with evaluating(module), outside_inference_mode():
        network = _copied(module)
        probe = probe_of(batch)
        expected = sound_response(module, probe)
        flow = data_flow(network, len(batch.extra))
        applied, skipped = _folded(network, flow, probe)
        if not compile:  # the compiler does all this itself
            n_rectified, wrong = fuse_relus_if_exact(network, flow, probe)
            applied += [f"ReLUs within convolutions: {n_rectified}"] * bool(n_rectified)
            skipped += [wrong] * bool(wrong)
            n_prepacked = prepack(network, in_bfloat16=precision == "bfloat16")
            applied += [f"weights laid out once: {n_prepacked}"] * bool(n_prepacked)
        autocast = precision == "bfloat16"
        if autocast:
            _warn_if_emulated(batch)
            _cast_once(network)
        if channels_last is None:
            channels_last, measured = _faster_in_channels_last(network, batch, autocast)
            (applied if channels_last else skipped).append(measured)
        elif channels_last:
            applied.append("channels_last")
        if compile:
            network.compile()
            applied.append("torch.compile")
        if autocast:
            applied.append("bfloat16")
        try:
            accelerated = Accelerated(
                network,
                len(batch.extra),
                channels_last=channels_last,
                autocast=autocast,
                applied=applied,
                skipped=skipped,
            )
        except RuntimeError as error:
            raise ModelError(
                f"the model's weights do not take the memory layout; give channels_last=False: {error}"
            ) from error
        _expect_same(accelerated, expected, probe)
    return accelerated


def _checked(
    example_inputs: Tensor | tuple[Tensor, ...], precision: Precision, channels_last: bool | None
) -> Batch:
    inputs, *extra = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    batch = checked_batch(inputs, additional_forward_args=tuple(extra))
    if not all(isinstance(each, Tensor) for each in extra):
        raise InputError("example_inputs must be a tensor or a tuple of tensors")
    if precision == "bfloat16" and inputs.dtype != torch.float32:
        raise ParameterError(f"bfloat16 is for models in float32; the examples are {inputs.dtype}")
    if channels_last and inputs.ndim != 4:
        raise ParameterError(f"channels_last is for inputs (N, C, H, W), not of shape {tuple(inputs.shape)}")
    return batch


def _copied(model: nn.Module) -> nn.Module:
    network = copied(model, "your own is not changed")
    for parameter in network.parameters():
        parameter.grad = None
    return network.requires_grad_(False)


def _folded(network: nn.Module, flow: DataFlow, probe: Batch) -> tuple[list[str], list[str]]:
    """Fold, in place, what provably is exact; return what was done and what was not, as words."""
    pairs, kept = foldable(flow)
    wrong = _wrong_when_folded(network, pairs, probe) if pairs else ""
    if wrong:
        kept[wrong] = [norm for _, norm in pairs]
        pairs = []
    fold(network, pairs)
    skipped = [
        f"batch norm: {len(names)} kept ({names[0]}{', …' * (len(names) > 1)}): {why}"
        for why, names in kept.items()
    ]
    if not pairs and not kept:
        skipped.append("batch norm: there is none")
    return [f"batch norm folded: {len(pairs)}"] * bool(pairs), skipped


def _wrong_when_folded(network: nn.Module, pairs: list[Pair], probe: Batch) -> str:
    """Return what folding changes beyond the rounding of float64, as words; empty if nothing."""
    try:
        original = copy.deepcopy(network).double()
        folded = copy.deepcopy(original)
        fold(folded, pairs)
        rows = in_float64(probe)
        expected = response(original, rows)
        apart = difference(response(folded, rows, expected.chosen), expected)
    except (RuntimeError, TypeError, AttributeError) as error:
        return f"float64, in which folding is checked, fails: {error}"
    return "" if apart.within(EXACT, EXACT) else f"folded, {apart} in float64"


def _warn_if_emulated(batch: Batch) -> None:
    if batch.inputs.is_cpu and not multiplies_bfloat16():
        warnings.warn(
            "bfloat16 on this processor is slower than float32: it has no instructions for it; leave the "
            "precision at float32, or compute where they are",
            stacklevel=3,
        )


def _cast_once(network: nn.Module) -> None:
    """Cast what autocast would cast in every pass: weights and biases of convolutions and linear layers."""
    for module in network.modules():
        # Others may compute with their weights in float32, or their weights in every call.
        if not plain(module, *LINEAR) and not isinstance(module, PrepackedLayer):
            continue
        for name, parameter in list(module.named_parameters(recurse=False)):
            if name in ("weight", "bias"):  # what these are computed from is not cast
                # A new one: another module may share the old one, in float32.
                setattr(module, name, nn.Parameter(parameter.to(torch.bfloat16), requires_grad=False))


def _expect_same(accelerated: Accelerated, expected: Response, probe: Batch) -> None:
    """Check that both compute the same up to rounding.

    Gradients are held to gross errors only: rounding switches ReLUs near their kinks.

    Raises:
        ModelError: they do not.
    """
    rough = accelerated.autocast
    eps = torch.finfo(torch.bfloat16).eps if rough else rounding(probe.inputs)
    how = ", ".join(accelerated.applied) or "only copied"
    try:
        actual = response(accelerated, probe, expected.chosen)
    except RuntimeError as error:
        raise ModelError(f"the model fails when accelerated ({how}); use the original: {error}") from error
    apart = difference(actual, expected)
    if not apart.within(eps**0.5, 0.5 if rough else 0.1):
        raise ModelError(
            f"accelerated ({how}), the model computes something else: {apart}; use the original"
            + (", or float32" if rough else "")
        )


def _faster_in_channels_last(network: nn.Module, batch: Batch, autocast: bool) -> tuple[bool, str]:
    """Return whether channels_last pays for a forward and backward pass of the examples, and how much."""
    convolutions = [each for each in network.modules() if isinstance(each, nn.Conv2d | nn.ConvTranspose2d)]
    if batch.inputs.ndim != 4 or len(convolutions) < 2:
        return False, "channels_last: fewer than two 2-d convolutions"
    # Linear layers have no such layout: shared, so that their weights are laid out once for all three.
    shared = {id(each): each for each in network.modules() if isinstance(each, PrepackedLinear)}
    turns: list[tuple[float, ...]] = []
    try:
        layouts = [
            Accelerated(
                copy.deepcopy(network, {**shared}), len(batch.extra), channels_last=last, autocast=autocast
            )
            for last in (False, True)
        ]
        for model in layouts:
            _seconds(model, batch)  # what libraries set up for a new shape is not to be timed
        while len(turns) < 2 or (len({_pays(*turn) for turn in turns}) > 1 and len(turns) < MOST_TURNS):
            turns.append(tuple(_seconds(model, batch) for model in layouts))
    except RuntimeError as error:
        return False, f"channels_last: {error}"
    plain, last = map(min, zip(*turns, strict=True))
    return _pays(plain, last), f"channels_last: {last / plain:.2f} of the time"


def _pays(plain: float, last: float) -> bool:
    return last <= PAYS * plain


def _seconds(model: nn.Module, batch: Batch) -> float:
    return elapsed(lambda: response(model, batch), batch.inputs.device)
