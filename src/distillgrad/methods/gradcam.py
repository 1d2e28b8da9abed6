"""Grad-CAM at a layer that is found by following one forward pass, or named."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from distillgrad.core.batch import Batch
from distillgrad.core.forward import Model, failures_named
from distillgrad.core.working_copy import plain_module, working_copy
from distillgrad.errors import InputError, ModelError, ParameterError, UnknownNameError
from distillgrad.methods.base import GradientMethod
from distillgrad.methods.blank_maps import SPEAKS_AGAINST, sign_of
from distillgrad.methods.gradcam_layer import Maps, last_maps, named_maps
from distillgrad.methods.gradcam_pass import WatchedPass


class GradCAM(GradientMethod):
    """The places where the last features speak for the target: ``ReLU(Σ_k mean(∂f/∂A_k) A_k)``, upsampled.

    Rectified as published, then bilinear to the images' size; of a module equals Captum's ``LayerGradCam``.
    Without ``layer``, A is the last tensor with a grid that all of the score's gradient passes through,
    before the grid is pooled: a residual block's sum, all branches concatenated, a transformer's tokens.
    Where the head reads only the class token, the last tokens whose patches have a gradient.

    Args:
        model: An ``nn.Module`` of images ``(N, C, H, W)``.
        layer: A module of the model or its dotted name, whose output is A, in its last call. Maps and tokens
            are taken in any order of dimensions: it is known from the pass where the image's places lie.

    Attributes:
        layer_used: What A was, after a call: ``"layer4.1"``, ``"input of norm"``, ``"relu() in the model"``.
    Raises: ModelError: no such layer, no grid, no gradient; names the layer.
        UnknownNameError, ParameterError: a layer that the model does not have.
    Cost: one forward pass, and a backward pass as far as A.
    Source: Selvaraju et al. 2017, "Grad-CAM".
    """

    signed = False
    result = "pixels"
    source = "Selvaraju et al. 2017"
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
        self.layer_used: str | None = None

    def _attribute(self, batch: Batch) -> Tensor:
        if batch.inputs.ndim != 4:
            raise InputError(f"Grad-CAM needs images (N, C, H, W); got shape {tuple(batch.inputs.shape)}")
        _, maps, weights = self._weighted(batch)
        self.layer_used = maps.name
        self._note(f"The maps are {_described(maps.name)}.")
        attributions = (weights * maps.as_maps()).sum(1, keepdim=True).relu_()
        return functional.interpolate(attributions, tuple(batch.inputs.shape[2:]), mode="bilinear")

    def _blank_facts(self, batch: Batch) -> Sequence[str]:
        score, maps, weights = self._weighted(batch)
        rows = zip(score.tolist(), maps.as_maps(), weights, strict=True)
        return [f"{sign_of(value)} and {_blank_fact(row, weight)}" for value, row, weight in rows]

    def _weighted(self, batch: Batch) -> tuple[Tensor, Maps, Tensor]:
        """Return the score ``(N,)``, the maps and the weights of their channels ``(N, K, 1, 1)``."""
        watched = WatchedPass(working_copy(plain_module(self.forward_func, "Grad-CAM")))
        score = watched.score(batch)
        with failures_named(batch.inputs):
            maps, gradient = self._located(watched, score)
        return score.detach(), maps, gradient.mean((2, 3), keepdim=True)

    def _located(self, watched: WatchedPass, score: Tensor) -> tuple[Maps, Tensor]:
        """Return the maps and the score's gradient by them."""
        if self.layer is None:
            return last_maps(watched, score)
        name = self._name_of_layer()
        maps = named_maps(watched, name)
        gradient = maps.gradient(score)
        if gradient is None:
            raise ModelError(f"the model's score does not depend on layer {name!r}; name another: layer=")
        if maps.layout.has_others and not gradient.any():
            raise ModelError(
                f"the patch tokens of layer {name!r} have no gradient: what comes after reads only the class "
                "token; give an earlier block as layer=, or none"
            )
        n_calls = len(watched.outputs[name])
        if n_calls > 1:
            self._note(f"The model calls {name} {n_calls} times; the maps are those of the last call.")
        return maps, gradient

    def _name_of_layer(self) -> str:
        if isinstance(self.layer, str):
            return self.layer
        modules = plain_module(self.forward_func, "Grad-CAM").named_modules()
        name: str = next(name for name, module in modules if module is self.layer)
        return name


def _blank_fact(maps: Tensor, weights: Tensor) -> str:
    """Return what makes the map of a row blank: its maps ``(K, h, w)`` and their weights ``(K, 1, 1)``."""
    weighted = (weights * maps).sum(0)
    if bool((weighted < 0).any()):
        return SPEAKS_AGAINST
    if bool((weighted > 0).any()):
        return "the weighted maps add up to the same at each place"
    if not bool(weights.any()):
        return "the weight of each channel, the mean of the score's gradient by it, is zero"
    return "the weighted maps add up to zero" if bool(maps.any()) else "the maps are zero"


def _described(name: str) -> str:
    if name.startswith("input of "):
        return f"the {name}"
    return f"the result of {name}" if "()" in name else f"the output of {name}"
