"""Weights as training frameworks write them, found or refused, never chosen or made up in silence."""

import pytest
import torch
from computed_weights import computing
from safetensors.torch import save_file
from torch import nn

import distillgrad as dg
from distillgrad.core.optional import optional
from distillgrad.sources.weights import fingerprint, load_weights, read_weights

PREFIXES = ("", "module.", "model.", "_orig_mod.", "model._orig_mod.", "net.backbone.", "module.module.")


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))


def prefixed(prefix):
    return {prefix + name: value for name, value in network().state_dict().items()}


def loaded(path):
    model = network(seed=1)
    load_weights(model, read_weights(path), path.name)
    return model.state_dict()


def same(found):
    for name, value in network().state_dict().items():
        torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_of_all_names_is_taken_off(tmp_path, prefix):
    save_file(prefixed(prefix), tmp_path / "weights.safetensors")
    same(loaded(tmp_path / "weights.safetensors"))
    for place in ("state_dict", "model", "model_state_dict", "net"):
        optimizer = {"state": {0: {"step": torch.ones(())}}, "param_groups": [{"lr": 0.1}]}
        content = {
            place: prefixed(prefix),
            "epoch": 3,
            "optimizer": optimizer,
            "hyper_parameters": {"lr": 0.1},
        }
        torch.save(content, tmp_path / "weights.pt")
        same(loaded(tmp_path / "weights.pt"))


def test_what_is_beside_the_network_in_a_trainer_is_left_out(tmp_path):
    save_file({**prefixed("net."), "criterion.weight": torch.ones(3)}, tmp_path / "weights.safetensors")
    same(loaded(tmp_path / "weights.safetensors"))


def test_of_several_networks_none_is_chosen(tmp_path):
    torch.save({"model": prefixed(""), "model_ema": prefixed("")}, tmp_path / "ema.pt")
    with pytest.raises(dg.errors.SourceError, match=r"'model', 'model_ema': choose"):
        loaded(tmp_path / "ema.pt")
    save_file({**prefixed("student."), **prefixed("teacher.")}, tmp_path / "two.safetensors")
    with pytest.raises(dg.errors.SourceError, match=r"'student\.', 'teacher\.': choose"):
        loaded(tmp_path / "two.safetensors")


def test_weights_too_many_behind_a_prefix_are_refused(tmp_path):
    save_file({**prefixed("net."), "net.9.weight": torch.ones(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(dg.errors.SourceError, match=r"9\.weight"):
        loaded(tmp_path / "weights.safetensors")


def test_a_hugging_face_model_without_a_trained_head_is_refused(tmp_path):
    optional("torchvision", "vision")
    transformers = optional("transformers", "huggingface")
    sizes = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28}
    transformers.Dinov2Model(transformers.Dinov2Config(**sizes, patch_size=14)).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(size={"height": 28, "width": 28}).save_pretrained(tmp_path)
    with pytest.raises(dg.errors.SourceError, match=r"no weights for classifier\.bias, classifier\.weight"):
        dg.load_model(f"hf:{tmp_path}")


def test_a_fingerprint_tells_quantised_weights_apart():
    one, same_weights, other = (computing("quantised") for _ in range(3))
    other[0].weight.levels[0, 0, 0, 0] += 1
    assert fingerprint(one) == fingerprint(same_weights) != fingerprint(other)
