"""Grad-CAM through Captum's layer gradients, at a layer that is found by watching one forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from captum._utils.gradient import compute_layer_gradients_and_eval
from captum.attr import LayerAttribution
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from distillgrad.core.batch import Batch
from distillgrad.core.forward import Model, failures_named, scores, select
from distillgrad.core.trace import differentiable
from distillgrad.core.working_copy import plain_module, working_copy
from distillgrad.errors import InputError, ModelError, ParameterError, UnknownNameError
from distillgrad.methods.base import GradientMethod
from distillgrad.methods.captum_call import captum_forward


class GradCAM(GradientMethod):
    """The places where the last features speak for the target: ``ReLU(Σ_k mean(∂f/∂A_k) A_k)``, upsampled.

    Rectified as published, then bilinear to the images' size; equals Captum's ``LayerGradCam``. Without
    ``layer``, A is the output of the last convolution that takes part in the call and has more than one
    position; in a transformer the tokens that enter the last attention's norm (a head that reads only the
    class token leaves those after it without a gradient), folded back to the patches' grid.

    Args:
        model: An ``nn.Module`` of images ``(N, C, H, W)``.
        layer: A module of the model or its dotted name, whose output is A: maps ``(N, K, h, w)``, or tokens
            ``(N, prefix + h·w, K)``.
    Raises: ModelError: no such layer, no grid, no gradient; names the layer.
        UnknownNameError, ParameterError: a layer that the model does not have.
    Cost: one forward pass, and one forward and backward pass.
    Source: Selvaraju et al. 2017, "Grad-CAM"; Captum's LayerGradCam.
    """

    signed = False
    result = "pixels"
    cost = "1 forward pass, 1 gradient pass"
    source = "Selvaraju et al. 2017; Captum's LayerGradCam"
    layerwise = True
    needs_module = True

    def __init__(self, model: Model, layer: str | nn.Module | None = None) -> None:
        super().__init__(model)
        names = {name: module for name, module in plain_module(model, "Grad-CAM").named_modules() if name}
        if isinstance(layer, str) and layer not in names:
            raise UnknownNameError("layer", layer, names)
        if isinstance(layer, nn.Module) and all(layer is not module for module in names.values()):
            raise ParameterError(f"the layer, a {type(layer).__name__}, is not a module of the model")
        if layer is not None and not isinstance(layer, str | nn.Module):
            raise ParameterError(f"layer must be a module or its dotted name, not a {type(layer).__name__}")
        self.layer = layer

    @property
    def n_passes(self) -> int:
        """Two passes: one finds the layer and the prediction, one takes the gradient."""
        return 2

    def _attribute(self, batch: Batch) -> Tensor:
        if batch.inputs.ndim != 4:
            raise InputError(f"Grad-CAM needs images (N, C, H, W); got shape {tuple(batch.inputs.shape)}")
        model, watched = plain_module(self.forward_func, "Grad-CAM"), _Watched()
        with watched:
            _, target = scores(model, batch.inputs, batch.target, batch.extra)
        name, layer, before = self._located(model, watched)
        copies: dict[int, Any] = {}
        network = working_copy(model, copies)
        # A score (N,) rather than logits, which Captum selects from only if they are (N, classes).
        score = _scored(network, replace(batch, target=target))
        gradient, activation = _at_layer(score, copies[id(layer)], batch, name, before)
        maps = _folded(activation, watched.grid, name)
        weights = _folded(gradient, watched.grid, name).mean((2, 3), keepdim=True)
        if activation.ndim == 3 and not weights.any():
            raise ModelError(
                f"the patch tokens of layer {name!r} have no gradient: what comes after reads only the class "
                "token; give an earlier block as layer=, or none"
            )
        attributions = (weights * maps).sum(1, keepdim=True).relu_()
        resized: Tensor = LayerAttribution.interpolate(
            attributions, tuple(batch.inputs.shape[2:]), "bilinear"
        )
        return resized

    def _located(self, model: nn.Module, watched: _Watched) -> tuple[str, nn.Module, bool]:
        """Return the layer's name, itself, and whether its input is meant rather than its output."""
        if self.layer is not None:
            for name, module in model.named_modules():
                if self.layer is module or self.layer == name:
                    return name, module, False
        kind, weight = watched.last()
        for name, module in model.named_modules():
            if any(weight is parameter for parameter in module.parameters(recurse=False)):
                return name, module, kind == "norm"
        raise ModelError(
            f"the last {kind}'s weight is computed in the call and belongs to no module, so Grad-CAM cannot "
            "tell its layer; name it: layer="
        )


class _Watched(TorchFunctionMode):
    """The last convolution of a forward pass, and what of a transformer comes after it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution: Tensor | None = None
        self.grid: tuple[int, int] | None = None
        self._norm: Tensor | None = None
        self._attended: Tensor | None = None
        self._n_attentions = 0

    def last(self) -> tuple[str, Tensor]:
        """Return ``"convolution"`` or ``"norm"`` and the weight of the layer to explain."""
        if self.convolution is None:
            raise ModelError(
                "Grad-CAM needs feature maps, and no two-dimensional convolution with more than one position "
                "took part in the call; name a layer with maps (N, K, h, w): layer="
            )
        if self._attended is not None:
            return "norm", self._attended
        # One attention may pool a convolutional network's maps; several are a transformer.
        if self._n_attentions > 1:
            raise ModelError(
                "Grad-CAM found attention after the last convolution, but no norm of tokens "
                "(N, prefix + h·w, K) before it (windowed attention?); name a layer with maps "
                "(N, K, h, w): layer="
            )
        return "convolution", self.convolution

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if name == "conv2d" and result[0, 0].numel() > 1:
            self.convolution = kwargs.get("weight", args[1] if len(args) > 1 else None)
            self.grid = (result.shape[-2], result.shape[-1])
            self._norm, self._attended, self._n_attentions = None, None, 0
        elif name in ("layer_norm", "rms_norm"):
            weight = kwargs.get("weight", args[2] if len(args) > 2 else None)
            if result.ndim == 3:
                self._norm = weight
            elif self._norm is not None and result.shape[-1] >= len(self._norm):
                self._norm = None  # of windows; one of queries or keys is over the channels of a head
        elif name in ("scaled_dot_product_attention", "multi_head_attention_forward") or (
            name == "softmax" and result.ndim > 2
        ):
            self._attended = self._norm
            self._n_attentions += 1
        return result


def _scored(network: nn.Module, batch: Batch) -> Callable[..., Tensor]:
    """Return the batch's scores ``(N,)`` as a function for Captum."""
    target, n = batch.target, len(batch)
    function, _ = captum_forward(
        network, replace(batch, target=lambda output: differentiable(select(output, target, n)))
    )
    return function


def _at_layer(
    score: Callable[..., Tensor], layer: nn.Module, batch: Batch, name: str, before: bool
) -> tuple[Tensor, Tensor]:
    """Return the score's gradient by the layer's output, or input, and that itself."""
    try:
        with failures_named(batch.inputs):
            gradients, activations = compute_layer_gradients_and_eval(
                score,
                layer,
                batch.inputs.clone().requires_grad_(),
                additional_forward_args=batch.extra or None,
                attribute_to_layer_input=before,
                grad_kwargs={"allow_unused": True},
            )
    except AssertionError as error:
        raise ModelError(f"layer {name!r} takes no part in the call: Captum found no output") from error
    if gradients[0] is None:
        raise ModelError(f"the model's score does not depend on layer {name!r}; name another: layer=")
    return gradients[0].detach(), activations[0].detach()


def _folded(values: Tensor, grid: tuple[int, int] | None, name: str) -> Tensor:
    """Return maps ``(N, K, h, w)``: as they are, or from tokens ``(N, prefix + h·w, K)``."""
    if values.ndim == 4:
        return values
    if values.ndim != 3:
        raise ModelError(
            f"layer {name!r} gives shape {tuple(values.shape)}; Grad-CAM needs maps (N, K, h, w) or tokens "
            "(N, T, K): name another layer="
        )
    n_tokens = values.shape[1]
    if grid is None or n_tokens < grid[0] * grid[1]:
        patches = (
            "no convolution cut patches" if grid is None else f"the patches' grid is {grid[0]}×{grid[1]}"
        )
        raise ModelError(
            f"the {n_tokens} tokens of layer {name!r} cannot be folded back to a grid: {patches}; name a "
            "layer with maps (N, K, h, w): layer="
        )
    height, width = grid
    patches_only = values[:, n_tokens - height * width :]
    return patches_only.transpose(1, 2).reshape(len(values), -1, height, width)
