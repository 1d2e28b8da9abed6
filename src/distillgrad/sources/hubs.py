"""Classifiers that other libraries define: torchvision, timm, Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from distillgrad.core.optional import optional
from distillgrad.errors import ModelError, SourceError, UnknownNameError
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.preprocess import IMAGENET_MEAN, IMAGENET_STD, expect_bands
from distillgrad.sources.weights import load_weights, named_as_in, read_weights

OFFLINE = "the bundled --model cifar10-cnn needs no download"


def torchvision_names() -> list[str]:
    """Return ``torchvision:NAME`` of each classifier there."""
    models = optional("torchvision.models", "vision")
    return [f"torchvision:{name}" for name in models.list_models(module=models)]


def timm_names() -> list[str]:
    """Return ``timm:NAME`` of each classifier there."""
    return [f"timm:{name}" for name in optional("timm", "vision").list_models()]


def torchvision_model(name: str, weights_file: str, pretrained: bool) -> LoadedModel:
    """Return a torchvision classifier.

    With a file the head has as many classes as the file's, and the preprocessing is that of torchvision's
    first weights for the architecture; otherwise the weights are torchvision's default, from its cache or
    downloaded once.
    """
    models = optional("torchvision.models", "vision")
    known = models.list_models(module=models)
    if name not in known:
        raise UnknownNameError("torchvision model", name, known)
    published = models.get_model_weights(name)
    own = next(iter(published)) if weights_file else published.DEFAULT
    categories = tuple(own.meta["categories"])
    extra: dict[str, Any] = {}
    if name in ("inception_v3", "googlenet"):
        # torchvision's builders set this when they load weights themselves: theirs were trained with it.
        extra = {"transform_input": True, "init_weights": False}
    state: dict[str, Tensor] = {}
    if pretrained:
        state = read_weights(weights_file) if weights_file else _downloaded(own.url)
    model = models.get_model(name, weights=None, **extra)
    n_classes = len(categories)
    if weights_file and pretrained:
        n_classes = _head_size(model, named_as_in(model, state, weights_file))
    if n_classes != len(categories):
        model = models.get_model(name, weights=None, num_classes=n_classes, **extra)
    if pretrained:
        load_weights(model, state, weights_file or own.url.rpartition("/")[2])
    preset = own.transforms()
    crop = preset.crop_size[0]
    return LoadedModel(
        model=model,
        preprocess=preset,
        classes=_class_names(categories, n_classes),
        input_size=(3, crop, crop),
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        name=f"torchvision:{name}",
    )


def timm_model(name: str, weights_file: str, pretrained: bool) -> LoadedModel:
    """Return a timm classifier, with timm's own weights from its cache or the hub, or with a file's."""
    timm = optional("timm", "vision")
    data = optional("timm.data", "vision")
    if name.partition(".")[0] not in timm.list_models():
        raise UnknownNameError("timm model", name, timm.list_models())
    try:
        model = timm.create_model(name, pretrained=pretrained and not weights_file)
    except Exception as error:  # the hub's client raises its own kinds for every way to be out of reach
        raise _out_of_reach(f"timm:{name}", error) from error
    if weights_file and pretrained:
        state = named_as_in(model, read_weights(weights_file), weights_file)
        n_classes = _head_size(model, state)
        if n_classes != model.num_classes:
            model.reset_classifier(n_classes)
        load_weights(model, state, weights_file)
    config = data.resolve_model_data_config(model)
    subset = data.infer_imagenet_subset(model)
    names: tuple[str, ...] = ()
    if subset:
        names = tuple(each.partition(",")[0] for each in data.ImageNetInfo(subset).label_descriptions())
    return LoadedModel(
        model=model,
        preprocess=data.create_transform(**config, is_training=False),
        classes=_class_names(names, model.num_classes),
        input_size=tuple(config["input_size"]),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        name=f"timm:{name}",
    )


def huggingface_model(name: str, pretrained: bool) -> LoadedModel:
    """Return a classifier of the Hugging Face hub, or of a folder: only safetensors, no remote code."""
    name = existing_folder(name, "hf")
    transformers = optional("transformers", "huggingface")
    try:
        if pretrained:
            model, loading = transformers.AutoModelForImageClassification.from_pretrained(
                name, use_safetensors=True, output_loading_info=True
            )
        else:
            model = transformers.AutoModelForImageClassification.from_config(
                transformers.AutoConfig.from_pretrained(name)
            )
        processor = transformers.AutoImageProcessor.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise _out_of_reach(f"hf:{name}", error) from error
    if pretrained:
        _expect_all_weights(f"hf:{name}", loading)

    def preprocess(image: Any) -> Tensor:
        expect_bands(image, getattr(model.config, "num_channels", 3), f"hf:{name}")
        pixels: Tensor = processor(images=image, return_tensors="pt")["pixel_values"][0]
        return pixels

    image_module = optional("PIL.Image", "vision", "pillow")
    example = preprocess(image_module.new("RGB", (64, 64)))
    if example.ndim != 3:
        raise ModelError(f"hf:{name} does not take images (C, H, W) but {tuple(example.shape)}")
    labels = model.config.id2label
    return LoadedModel(
        model=model,
        preprocess=preprocess,
        classes=tuple(str(labels[index]).partition(",")[0] for index in range(len(labels))),
        input_size=(example.shape[0], example.shape[1], example.shape[2]),
        mean=tuple(getattr(processor, "image_mean", None) or IMAGENET_MEAN),
        std=tuple(getattr(processor, "image_std", None) or IMAGENET_STD),
        name=f"hf:{name}",
    )


def existing_folder(name: str, kind: str) -> str:
    """Return what names a folder or a repository of the hub, the former as it is called without ``~``.

    Raises:
        SourceError: it can only be a folder (``./`` or ``/`` before it, or several names), and is none.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if name.startswith((".", "~")) or path.is_absolute() or path.exists() or len(path.parts) > 2:
        what = "is a file, no folder" if path.exists() else "does not exist"
        raise SourceError(f"cannot load {kind}:{name}: the folder {path} {what}; name one, or a repository")
    return name


def _expect_all_weights(spec: str, loading: Mapping[str, Any]) -> None:
    """Check that every parameter came from the file: transformers begins the others at random.

    Raises:
        SourceError: some did not, as the head of a backbone or of CLIP; names them.
    """
    new = sorted(loading["missing_keys"]) + sorted(str(each[0]) for each in loading["mismatched_keys"])
    if new:
        named = ", ".join(new[:4]) + (f" and {len(new) - 4} more" if len(new) > 4 else "")
        raise SourceError(
            f"{spec} has no weights for {named}, which would be random: it is no trained classifier; name "
            "one with a trained head, or load it in a function of your own, package.module:function"
        )


def _downloaded(url: str) -> dict[str, Tensor]:
    """Return torchvision's weights from torch's cache, downloaded if they are not there."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / url.rpartition("/")[2]
    if not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            digest = path.stem.rpartition("-")[2]
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digest, progress=True)
        except (OSError, RuntimeError) as error:
            raise SourceError(
                f"cannot download {url} ({error}); fetch it on a connected machine and put it at "
                f"{path}, or name a file: torchvision:NAME@FILE; {OFFLINE}"
            ) from error
    return read_weights(path)


def _out_of_reach(spec: str, error: Exception) -> SourceError:
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return SourceError(
        f"cannot load {spec}: {first}; without network give a file or a folder of weights "
        f"(safetensors): timm:NAME@FILE, hf:FOLDER; {OFFLINE}"
    )


def _head_size(model: nn.Module, state: dict[str, Tensor]) -> int:
    """Return the number of classes in a file: the length of the model's last bias or weight there."""
    last = list(model.state_dict())[-1]
    if last not in state:
        raise SourceError(f"the weights do not fit {type(model).__name__}: they have no {last!r}")
    return len(state[last])


def _class_names(known: tuple[str, ...], n_classes: int) -> tuple[str, ...]:
    if len(known) == n_classes:
        return known
    return tuple(f"class {index}" for index in range(n_classes))
