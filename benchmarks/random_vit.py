"""A vision transformer with random weights, for ``--models random_vit:vit_tiny``: none can be had offline."""

from __future__ import annotations

from distillgrad.core.optional import optional
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.preprocess import ResizeAndCrop

NAME = "vit_tiny_patch16_224"


def vit_tiny() -> LoadedModel:
    """The ViT-Ti/16 of timm, drawn anew from torch's seed. Its maps say nothing of any image."""
    model = optional("timm", "vision").create_model(NAME, pretrained=False)
    return LoadedModel(
        model=model.eval(),
        preprocess=ResizeAndCrop(248, 224, (0.5,) * 3, (0.5,) * 3),
        classes=tuple(f"class {index}" for index in range(1000)),
        input_size=(3, 224, 224),
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        name=f"{NAME} with random weights",
    )
