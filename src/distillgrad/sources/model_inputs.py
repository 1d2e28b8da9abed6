"""Images on their way into a model: decoded, labelled, preprocessed, and the model's predictions for them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from distillgrad.core.forward import Model
from distillgrad.core.logits import logits_of
from distillgrad.errors import DistillgradError, InputError, MissingExtraError, ModelError, SourceError
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.image_data import ImageData
from distillgrad.sources.labels import label_index
from distillgrad.sources.preprocess import expect_bands


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
        inputs = preprocessed(loaded, image)
        if tuple(inputs.shape) != tuple(loaded.input_size):
            raise InputError(
                f"preprocessed to {tuple(inputs.shape)}, the model takes {tuple(loaded.input_size)}"
            )
    except InputError as failure:
        return ModelInput(image, known, error=failure, label_error=label_error)
    return ModelInput(image, known, inputs, label_error=label_error)


def preprocessed(loaded: LoadedModel, image: Image.Image) -> Tensor:
    """Return the model's input for an image, ``(C, H, W)`` on the CPU.

    Raises:
        InputError: the model takes another number of bands, or its preprocessing fails.
        MissingExtraError: a package that every image needs.
    """
    expect_bands(image, loaded.input_size[0], loaded.name or "the model")
    try:
        with torch.device("cpu"):  # torchvision's transforms take the default one
            return loaded.preprocess(image)
    except MissingExtraError:
        raise
    except Exception as error:  # of the model's own code
        raise InputError(f"cannot be preprocessed: {error}") from error


def class_logits(loaded: LoadedModel, model: Model, inputs: Tensor) -> Tensor:
    """Return the logits ``(N, classes)`` of ``model``, the loaded one or its equivalent.

    Raises:
        ModelError: as :func:`expect_class_logits` does.
    Cost: one forward pass, no graph.
    """
    with torch.no_grad():
        logits = logits_of(model(inputs))
    expect_class_logits(loaded, logits)
    return logits


def expect_class_logits(loaded: LoadedModel, logits: Tensor) -> None:
    """Check that there is one logit for each class that the model's names tell apart.

    Raises:
        ModelError: there are others; says what to do.
    """
    name, n_classes = loaded.name or "the model", len(loaded.classes)
    if logits.ndim == 1 or (logits.ndim == 2 and logits.shape[1] == 1):
        raise ModelError(
            f"{name} gives a single score z, whose softmax is 100 % whatever it is; let it return two "
            "logits, such as torch.stack([-z / 2, z / 2], 1), whose softmax is z's sigmoid"
        )
    if logits.ndim != 2 or logits.shape[1] != n_classes:
        some = ", ".join(loaded.classes[:3]) + (", …" if n_classes > 3 else "")
        raise ModelError(
            f"{name} gives outputs of shape {tuple(logits.shape)} for the {n_classes} class names {some}; "
            "give as many names, in the order of the logits"
        )


def class_probabilities(loaded: LoadedModel, model: Model, inputs: Tensor) -> Tensor:
    """Return softmax probabilities ``(N, classes)``, float32, of what :func:`class_logits` returns.

    Raises:
        ModelError: as :func:`expect_class_logits` does; or a logit is NaN or infinite.
    """
    logits = class_logits(loaded, model, inputs).float()
    if not bool(logits.isfinite().all()):
        raise ModelError(
            f"{loaded.name or 'the model'} returns NaN or infinite logits, which predict nothing; look for "
            "broken weights, or a type of numbers that is too small"
        )
    return logits.softmax(1)
