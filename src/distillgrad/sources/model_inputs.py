"""Images on their way into a model: decoded, labelled, preprocessed, and the model's predictions for them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from distillgrad.core.forward import Model, logits_of
from distillgrad.errors import DistillgradError, InputError, MissingExtraError, SourceError
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.image_data import ImageData
from distillgrad.sources.labels import label_index


@dataclass(frozen=True)
class ModelInput:
    """One image of a data set, as far as it came on its way into a model.

    Attributes:
        image: Decoded; ``None`` where it cannot be.
        label_index: The label among the model's classes; ``None`` where there is none that it knows.
        inputs: Preprocessed, ``(C, H, W)`` on the CPU; ``None`` where it cannot be.
        error: Why there are no inputs.
        label_error: Why there is no label index; it matters only where labels are needed.
    """

    image: Image.Image | None = None
    label_index: int | None = None
    inputs: Tensor | None = None
    error: DistillgradError | None = None
    label_error: Exception | None = None


def model_input(loaded: LoadedModel, data: ImageData, place: int) -> ModelInput:
    """Return the image at a place of the data as ``loaded`` takes it; what fails is in the result.

    Raises:
        MissingExtraError: a package that every image needs.
    """
    try:
        image = data[place].image
    except SourceError as error:
        return ModelInput(error=error)
    label, known, label_error = data.labels[place], None, None
    try:
        if label is None:
            raise InputError("it has no label")
        known = label_index(label, loaded, data.classes)
    except (DistillgradError, ValueError) as error:
        label_error = error
    try:
        inputs = loaded.preprocess(image)
    except MissingExtraError:
        raise
    except Exception as error:  # noqa: BLE001  # the model's own code
        failure = InputError(f"cannot be preprocessed: {error}")
        return ModelInput(image, known, error=failure, label_error=label_error)
    if tuple(inputs.shape) != tuple(loaded.input_size):
        failure = InputError(
            f"preprocessed to {tuple(inputs.shape)}, the model takes {tuple(loaded.input_size)}"
        )
        return ModelInput(image, known, error=failure, label_error=label_error)
    return ModelInput(image, known, inputs, label_error=label_error)


def logits_at(model: Model, inputs: Tensor) -> Tensor:
    """Return the model's logits ``(N, classes)``. Cost: one forward pass, no graph."""
    with torch.no_grad():
        return logits_of(model(inputs))


def class_probabilities(model: Model, inputs: Tensor) -> Tensor:
    """Return softmax probabilities ``(N, classes)``, float32. Cost: one forward pass, no graph."""
    return logits_at(model, inputs).float().softmax(1)
