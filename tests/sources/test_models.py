"""Models by name, and weights that are read without running them."""

import hashlib
import pickle
import re
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import distillgrad as dg
from distillgrad.core.optional import optional
from distillgrad.errors import ModelError, ParameterError, SourceError
from distillgrad.sources import bundled
from distillgrad.sources.preprocess import ResizeAndCrop
from distillgrad.sources.weights import read_weights


def noise(width=90, height=70):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))


def check_loaded(loaded):
    inputs = loaded.preprocess(noise())[None]
    assert tuple(inputs.shape[1:]) == loaded.input_size
    assert not loaded.model.training
    with torch.no_grad():
        logits = loaded.model(inputs)
    logits = getattr(logits, "logits", logits)
    assert logits.shape == (1, len(loaded.classes))
    shown = loaded.displayable(inputs[0])
    assert 0 <= float(shown.min()) <= float(shown.max()) <= 1


@pytest.mark.parametrize(
    "spec",
    [
        "cifar10-cnn",
        "torchvision:squeezenet1_1",
        "torchvision:resnet18",
        "torchvision:inception_v3",
        "timm:resnet18",
        "timm:vit_tiny_patch16_224",
    ],
)
def test_random_weights(spec):
    loaded = dg.load_model(spec, pretrained=False)
    check_loaded(loaded)
    assert loaded.name == spec


def test_torchvisions_classes_are_named():
    loaded = dg.load_model("torchvision:squeezenet1_1", pretrained=False)
    assert loaded.classes[281] == "tabby"
    assert loaded.class_index("Tabby") == loaded.class_index("281") == 281
    with pytest.raises(dg.errors.UnknownNameError, match="'tabby'"):
        loaded.class_index("taby")
    with pytest.raises(dg.errors.TargetError, match="1000 classes"):
        loaded.class_index("1000")
    with pytest.raises(dg.errors.TargetError, match="134, 517"):
        dg.load_model("timm:resnet18", pretrained=False).class_index("crane")


def test_preprocessing_is_torchvisions():
    transforms = optional("torchvision.transforms._presets", "vision")
    for size in ((90, 70), (70, 91), (64, 64), (333, 50)):
        image = noise(*size)
        theirs = transforms.ImageClassification(crop_size=48, resize_size=57)(image)
        torch.testing.assert_close(ResizeAndCrop(57, 48)(image), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["torchvision", "timm"])
def test_weights_from_a_file_with_their_own_classes(tmp_path, kind):
    library = optional("torchvision.models" if kind == "torchvision" else "timm", "vision")
    made = library.get_model if kind == "torchvision" else library.create_model
    model = made("resnet18", num_classes=7).eval()
    save_file(model.state_dict(), tmp_path / "seven.safetensors")
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, tmp_path / "seven.pt"
    )
    inputs = torch.randn(1, 3, 224, 224)
    for name in ("seven.safetensors", "seven.pt"):
        loaded = dg.load_model(f"{kind}:resnet18@{tmp_path / name}")
        check_loaded(loaded)
        assert len(loaded.classes) == 7
        with torch.no_grad():
            torch.testing.assert_close(loaded.model(inputs), model(inputs))
    with pytest.raises(dg.errors.SourceError, match=r"does not fit|do not fit"):
        dg.load_model(f"{kind}:resnet34@{tmp_path / 'seven.pt'}")


def test_hugging_face_folder(tmp_path):
    transformers = optional("transformers", "huggingface")
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        id2label={0: "cat, tabby", 1: "dog"},
        label2id={"cat, tabby": 0, "dog": 1},
    )
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    for pretrained in (True, False):
        loaded = dg.load_model(f"hf:{tmp_path}", pretrained=pretrained)
        check_loaded(loaded)
        assert loaded.classes == ("cat", "dog")
    images = loaded.preprocess(noise())[None]
    attributions = dg.DGA(loaded.model, n_steps=2).attribute(images)
    assert attributions.shape == images.shape


def test_a_factory_of_the_users_own(monkeypatch):
    module = types.ModuleType("users_models")
    module.small = lambda: nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 5))
    module.ready = lambda: dg.load_model("cifar10-cnn", pretrained=False)
    module.wrong = lambda: 3
    module.argument = lambda width: nn.Linear(width, 2)
    module.rows = lambda: nn.Linear(3, 2)
    module.number = 3
    monkeypatch.setitem(sys.modules, "users_models", module)
    check_loaded(dg.load_model("users_models:small"))
    assert dg.load_model("users_models:ready").name == "cifar10-cnn"
    with pytest.raises(dg.errors.ModelError, match="int"):
        dg.load_model("users_models:wrong")
    for name in ("argument", "number"):
        with pytest.raises(dg.errors.SourceError, match=f"users_models:{name} is no function"):
            dg.load_model(f"users_models:{name}")
    with pytest.raises(dg.errors.ModelError, match=r"users_models:rows: .*return a LoadedModel"):
        dg.load_model("users_models:rows")
    with pytest.raises(dg.errors.SourceError, match="none_such"):
        dg.load_model("users_models:none_such")


class Exploit:
    def __reduce__(self):
        return (sys.exit, ("code from a weights file was run",))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pt", pickle.dumps(Exploit(), protocol=2), "code"),
        ("a.pt", b"", "no readable|broken"),
        ("a.pt", b"garbage" * 9, "broken|no readable"),
        ("a.safetensors", b"garbage" * 9, "no readable"),
        ("a.safetensors", b"\xff" * 8, "no readable"),
    ],
)
def test_weights_never_run_code(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(dg.errors.SourceError, match=words):
        read_weights(tmp_path / name)


def test_weights_that_are_not_tensors_by_name(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(dg.errors.SourceError, match="tensors by name"):
        read_weights(tmp_path / "list.pt")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("cifar-cnn", "cifar10-cnn"),
        ("torchvision:resnet19", "resnet18"),
        ("timm:resnet19", "resnet18"),
        ("torchvision:", "incomplete"),
        ("torchvision:resnet18@", "incomplete"),
        ("torchvision:resnet18@missing.safetensors", "no weights at missing"),
        ("no_such_module:make", "no_such_module"),
    ],
)
def test_models_that_do_not_exist(spec, words):
    with pytest.raises(dg.errors.DistillgradError, match=words):
        dg.load_model(spec)


def test_without_network_the_error_says_where_the_file_goes(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    with pytest.raises(dg.errors.SourceError) as caught:
        dg.load_model("torchvision:squeezenet1_1")
    path = tmp_path / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    assert str(path) in str(caught.value)
    assert "cifar10-cnn" in str(caught.value)
    model = dg.load_model("torchvision:squeezenet1_1", pretrained=False).model
    torch.save(model.state_dict(), path)
    check_loaded(dg.load_model("torchvision:squeezenet1_1"))


def test_a_missing_library_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(dg.errors.MissingExtraError, match=re.escape("distillgrad[vision]")):
        dg.load_model("timm:resnet18")


def test_the_card_describes_the_bundled_weights():
    card = bundled.CARD.read_text()
    assert hashlib.sha256(bundled.WEIGHTS.read_bytes()).hexdigest() in card
    assert bundled.WEIGHTS.stat().st_size <= 2 * 2**20


def test_a_model_in_place_of_its_name_is_told_where_to_go():
    for given in (torch.nn.Linear(2, 2), dg.load_model("cifar10-cnn"), None):
        with pytest.raises(ParameterError, match=r"takes a name, not a .*; methods take a model as it is"):
            dg.load_model(given)


@pytest.mark.parametrize("name", ["./missing", "~/missing-folder", "/nowhere/at/all", "some/folder/deeper"])
def test_a_folder_that_is_not_there_is_no_repository(name):
    for open_it in (dg.load_model, dg.open_data):
        kind = "hf" if open_it is dg.load_model else "hf-dataset"
        with pytest.raises(SourceError, match=f"cannot load {kind}:.*: the folder .* does not exist"):
            open_it(f"{kind}:{name}")


def test_layers_that_wait_for_their_first_inputs_are_named(monkeypatch):
    lazy = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(2))
    module = type(dg)("lazy_factories")
    module.bare = lambda: lazy
    module.whole = lambda: dg.LoadedModel(lazy, lambda image: image, ("a", "b"), (3, 8, 8))
    monkeypatch.setitem(sys.modules, "lazy_factories", module)
    for name in ("bare", "whole"):
        with pytest.raises(ModelError, match=r"no weights yet \(1\.weight, 1\.bias\): call it once"):
            dg.load_model(f"lazy_factories:{name}")
