"""Grad-CAM against maps made by hand with the right layer: ``python benchmarks/gradcam_layers.py [NAME …]``.

Each line is OK or FAIL; the exit status is 1 if fewer than 95 % are right. Weights are random.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

import distillgrad as dg
from distillgrad.core.optional import optional

SHARE, TOLERANCE = 0.95, 1e-8


@dataclass(frozen=True)
class Right:
    """The layer that Grad-CAM should take of a network, and how it is to be read.

    Attributes:
        layer: The module whose output it is, or with ``of="input"`` whose input; empty: the network is to be
            refused, for no maps see all of the gradient.
        reading: Where channels are: ``"first"``, ``"last"``; or tokens ``(N, prefix + h·w, K)``.
        relu: Whether the network takes the ReLU of it by a function.
    """

    layer: str
    size: int = 64
    reading: Literal["first", "last", "tokens"] = "first"
    prefix: int = 0
    of: Literal["output", "input"] = "output"
    relu: bool = False
    further: dict[str, Any] = field(default_factory=dict)


def tokens(layer: str, size: int, prefix: int = 0, **further: Any) -> Right:
    """Tokens of a square grid, after others."""
    return Right(layer, size, "tokens", prefix, further=further)


SMALL_VIT = {"img_size": 64, "depth": 3}
SMALL_SWIN = {"img_size": 64, "window_size": 4, "embed_dim": 24, "depths": (1, 1), "num_heads": (1, 2)}
ARCHITECTURES: dict[str, Right] = {
    "timm:resnet18": Right("layer4.1"),
    "timm:resnet10t": Right("layer4.0"),
    "timm:resnest14d": Right("layer4.0"),
    "timm:seresnet18": Right("layer4.1"),
    "timm:densenet121": Right("features.norm5"),
    "torchvision:densenet121": Right("features", relu=True),
    "torchvision:googlenet": Right("inception5b"),
    "torchvision:inception_v3": Right("Mixed_7c", 128),
    "timm:inception_v4": Right("features.21", 128),
    "timm:dpn48b": Right("features.conv5_bn_ac"),
    "torchvision:vgg11": Right("features"),
    "torchvision:squeezenet1_1": Right("classifier.2"),
    "timm:efficientnet_b0": Right("bn2"),
    "timm:mobilenetv3_small_100": Right("blocks.5"),
    "timm:regnety_002": Right("s4"),
    "timm:convnext_atto": Right("stages.3"),
    "timm:convnextv2_atto": Right("stages.3"),
    "timm:nf_regnet_b0": Right("final_act"),
    "timm:dm_nfnet_f0": Right("final_act"),
    "timm:resnetv2_50x1_bit": Right("norm"),
    "timm:hrnet_w18_small": Right("final_layer"),
    "timm:swin_tiny_patch4_window7_224": Right("norm", reading="last", further=SMALL_SWIN),
    "timm:swinv2_tiny_window8_256": Right("norm", reading="last", further=SMALL_SWIN),
    "torchvision:swin_t": Right("norm", reading="last"),
    "timm:maxvit_rmlp_pico_rw_256": Right("norm", further={"img_size": 64}),
    "torchvision:maxvit_t": Right("blocks.3", 224),
    "timm:hiera_tiny_224": tokens("blocks.11", 64, img_size=64),
    "timm:vit_tiny_patch16_224": tokens("blocks.1", 64, 1, **SMALL_VIT),
    "timm:deit_tiny_distilled_patch16_224": tokens("blocks.1", 64, 2, **SMALL_VIT),
    "timm:vit_small_r26_s32_224": tokens("blocks.1", 64, 1, **SMALL_VIT),
    "timm:beit_base_patch16_224": tokens("blocks.2", 64, 1, **SMALL_VIT, embed_dim=48, num_heads=4),
    "timm:cait_xxs24_224": tokens("blocks.2", 64, **SMALL_VIT),
    "timm:mixer_s32_224": tokens("norm", 64, img_size=64),
    "timm:gmlp_s16_224": tokens("norm", 64, img_size=64),
    "timm:resmlp_12_224": tokens("norm", 64, img_size=64),
    "timm:mvitv2_tiny": tokens("norm", 64, img_size=64),
    "timm:xcit_nano_12_p16_224": Right(
        "cls_attn_blocks.1", 64, "tokens", 1, "input", further={"img_size": 64}
    ),
    "timm:tnt_s_patch16_224": Right("blocks.11.norm_out", 224, "tokens", 1, "input"),
    "timm:levit_128s": tokens("stages.2", 224),
    "timm:crossvit_tiny_240": Right("", 240),
}
"""By name the right layer; further arguments make a network small."""


def network(name: str) -> nn.Module:
    """Return a network of random weights in float64; of what begins with zeros, as many a head, too."""
    torch.manual_seed(0)
    library, short = name.split(":")
    if library == "torchvision":
        made: nn.Module = optional("torchvision.models", "vision").get_model(short, weights=None)
    else:
        made = optional("timm", "vision").create_model(short, pretrained=False, **ARCHITECTURES[name].further)
    with torch.no_grad():
        for parameter in made.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.05)
    return made.double().eval()


def by_hand(model: nn.Module, right: Right, images: Tensor, target: Tensor) -> Tensor:
    """Return Grad-CAM of the right layer, from a hook on it."""
    kept: list[Tensor] = []
    module = model.get_submodule(right.layer)
    if right.of == "input":
        handle = module.register_forward_pre_hook(lambda _, values: kept.append(values[0]))
    else:
        handle = module.register_forward_hook(lambda _, __, output: kept.append(output))
    inputs = images.clone().requires_grad_()
    score = model(inputs).gather(1, target[:, None]).sum()
    handle.remove()
    values = kept[-1]
    (gradient,) = torch.autograd.grad(score, values)
    if right.relu:
        values = values.relu()
    gradient, values = (_maps(each.detach(), right) for each in (gradient, values))
    weighted = (gradient.mean((2, 3), keepdim=True) * values).sum(1, keepdim=True)
    return functional.interpolate(weighted.relu(), images.shape[2:], mode="bilinear")


def _maps(values: Tensor, right: Right) -> Tensor:
    if right.reading == "first":
        return values
    if right.reading == "last":
        return values.permute(0, 3, 1, 2)
    patches = values[:, right.prefix :]
    side = round(patches.shape[1] ** 0.5)
    return patches.transpose(1, 2).reshape(len(values), -1, side, side)


def verdict(name: str) -> tuple[bool, str]:
    """Return whether Grad-CAM is right on a network, and what it did."""
    right, model = ARCHITECTURES[name], network(name)
    images = torch.randn(4, 3, right.size, right.size, dtype=torch.float64)
    with torch.no_grad():
        target = model(images).argmax(1)  # a score above zero, that the map is not rectified away
    method = dg.GradCAM(model)
    try:
        found = method.attribute(images, target)
    except dg.errors.ModelError as error:
        return not right.layer, f"refused: {error}"
    if not right.layer:
        return False, f"took {method.layer_used} instead of refusing"
    expected = by_hand(model, right, images, target)
    largest = float(expected.abs().max())
    apart = float((found - expected).abs().max())
    good = largest > 0 and apart <= TOLERANCE * largest
    return good, f"took {method.layer_used}; apart {apart:.1e} of {largest:.1e}"


def main() -> int:
    """Prints a line for each architecture; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(ARCHITECTURES), metavar="NAME")
    names = parser.parse_args().names
    n_right = 0
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            good, what = verdict(name)
        n_right += good
        print(f"{'OK  ' if good else 'FAIL'} {name}: {what}", flush=True)
    print(f"{n_right} of {len(names)} right")
    return int(n_right < SHARE * len(names))


if __name__ == "__main__":
    sys.exit(main())
