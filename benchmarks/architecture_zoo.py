"""The networks of the sweep over architectures: one and more for each family, small, with random weights.

``TIMM`` and ``TORCHVISION`` hold, by family, names with the side of the image and what makes them smaller;
transformers' are made of small configurations. :func:`families_left_out` says what has been installed since.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from distillgrad.core.optional import optional
from transformers_configurations import SMALL

N_CLASSES = 10
SIDE = 64

TIMM = """
beit: beit_base_patch16_224(depth=2,embed_dim=48,num_heads=3,img_size=64)
byoanet: halonet26t@256 lambda_resnet26t
byobnet: repvgg_a0 mobileone_s0@32 gcresnext26ts@32 bat_resnext26ts@256 regnetz_c16@32 regnetz_c16_evos@32
byobnet: test_byobnet resnet50_clip
cait: cait_xxs24_224(depth=2,img_size=64)
coat: coat_lite_tiny(img_size=64) coat_tiny(img_size=64)
convit: convit_tiny(img_size=64)
convmixer: convmixer_768_32@28
convnext: convnext_atto convnext_zepto_rms convnextv2_atto test_convnext3
cpubone: cpubone_nano
crossvit: crossvit_tiny_240@240
csatv2: csatv2
cspnet: cspresnet50@32 darknet17
cspnext: cspnext_tiny
davit: davit_tiny@32
deepseek_vit: deepseek_vit_412m(depth=2)@56
deit: deit_tiny_distilled_patch16_224(depth=2,img_size=64) deit3_small_patch16_224(depth=2,img_size=64)
densenet: densenet121 densenetblur121d@32
dla: dla46_c
dpn: dpn48b
edgenext: edgenext_xx_small
efficientformer: efficientformer_l1@224
efficientformer_v2: efficientformerv2_s0(img_size=64)
efficientnet: efficientnet_b0 efficientnet_cc_b0_4e@32 efficientnet_b0_gn@32 efficientnet_b0_g16_evos
efficientnet: mnasnet_small mobilenetv2_035 tinynet_e tf_efficientnetv2_b0@32 mixnet_s@32 fbnetc_100@32
efficientvim: efficientvim_m1
efficientvit_mit: efficientvit_b0
efficientvit_msra: efficientvit_m0(img_size=64)
eva: eva02_tiny_patch14_224(depth=2,img_size=56) vit_small_patch16_dinov3(depth=2)
eva: vit_small_patch16_rope_mixed_224(depth=2,img_size=64)
fasternet: fasternet_t0
fastvit: fastvit_t8
focalnet: focalnet_tiny_srf@32
gcvit: gcvit_xxtiny@224
gemma4_vit: gemma4_vit_167m(depth=2)
ghostnet: ghostnet_050 ghostnetv2_100 ghostnetv3_050
hardcorenas: hardcorenas_a@32
hgnet: hgnet_tiny@32 hgnetv2_b0
hiera: hiera_tiny_224(img_size=64)
hieradet_sam2: sam2_hiera_tiny
hrnet: hrnet_w18_small
iformer: iformer_t
inception_next: inception_next_atto
inception_resnet_v2: inception_resnet_v2@80
inception_v3: inception_v3@80
inception_v4: inception_v4@80
lcnetv2: lcnetv2_small
levit: levit_128s(img_size=64) levit_conv_128s(img_size=64)
lowformer: lowformer_b0@32
mambaout: mambaout_femto@32
maxxvit: coatnet_pico_rw_224(img_size=64) maxvit_rmlp_pico_rw_256(img_size=64) test_coatnet(img_size=64)
metaformer: poolformer_s12@32 caformer_s18@32 convformer_s18@32
mlp_mixer: mixer_s32_224(img_size=64) gmlp_ti16_224(img_size=64) resmlp_12_224(img_size=64)
mobilenetv3: mobilenetv3_small_050 lcnet_035 mobilenetv4_conv_small_035
mobilenetv3: mobilenetv4_hybrid_medium@32 fbnetv3_b@32
mobilenetv5: mobilenetv5_base@32
mobilevit: mobilevit_xxs mobilevitv2_050
mvitv2: mvitv2_tiny(img_size=64) mvitv2_small_cls(img_size=64)
naflexvit: naflexvit_base_patch16_gap(depth=2,embed_dim=48,num_heads=3)
nasnet: nasnetalarge@64
nest: nest_tiny(img_size=64)
nextvit: nextvit_small@32
nfnet: nf_regnet_b0@32 nf_resnet26@32 test_nfnet
pit: pit_ti_224(img_size=64) pit_ti_distilled_224(img_size=64)
pnasnet: pnasnet5large@64
pvt_v2: pvt_v2_b0 pvt_v2_b2_li@32
qwen3_vit: qwen3_vit_88m(depth=2)
rdnet: rdnet_tiny@32
regnet: regnetx_002 regnety_002 regnetz_005@32
repghost: repghostnet_050
repvit: repvit_m0_9
res2net: res2net50_48w_2s@32 res2next50@32
resnest: resnest14d@32
resnet: test_resnet resnet10t resnet18 resnext50_32x4d@32 seresnet18@32 ecaresnet26t@32
resnet: resnetblur18@32 resnet50_gn@32
resnetv2: resnetv2_18@32 resnetv2_50d_evos@32 resnetv2_50d_frn@32 resnetv2_50x1_bit@32
rexnet: rexnet_100@32
selecsls: selecsls42@32
senet: legacy_seresnet18@32
sequencer: sequencer2d_s@32
shvit: shvit_s1
sknet: skresnet18@32
starnet: starnet_s050
swiftformer: swiftformer_xs
swin_transformer: swin_tiny_patch4_window7_224(img_size=64)
swin_transformer_v2: swinv2_tiny_window8_256(img_size=64)
swin_transformer_v2_cr: swinv2_cr_tiny_224(img_size=64)
tiny_vit: tiny_vit_5m_224@32
tnt: tnt_s_patch16_224(depth=2,img_size=64)
tresnet: tresnet_m@32
twins: twins_pcpvt_small@32 twins_svt_small@32
vgg: vgg11@32 vgg11_bn@32
visformer: visformer_tiny(img_size=64)
vision_transformer: vit_tiny_patch16_224(depth=2,img_size=64) test_vit2(img_size=64) test_vit3(img_size=64)
vision_transformer: vit_small_patch14_reg4_dinov2(depth=2,img_size=56)
vision_transformer_hybrid: vit_tiny_r_s16_p8_224(depth=2,img_size=64)
vision_transformer_relpos: vit_relpos_small_patch16_224(depth=2,img_size=64) test_vit_relpos(img_size=64)
vision_transformer_sam: samvit_base_patch16_224(depth=2,embed_dim=48,num_heads=3,img_size=64)
vitamin: vitamin_small_224(depth=2,img_size=64)
volo: volo_d1_224(img_size=64)
vovnet: ese_vovnet19b_slim_dw vovnet39a@32
xception: legacy_xception
xception_aligned: xception41@32
xcit: xcit_nano_12_p16_224(depth=2,img_size=64)
"""

TORCHVISION = """
alexnet: alexnet
convnext: convnext_tiny@32
densenet: densenet121@32
efficientnet: efficientnet_b0@32 efficientnet_v2_s@32
googlenet: googlenet
inception: inception_v3@80
maxvit: maxvit_t@224
mnasnet: mnasnet0_5
mobilenetv2: mobilenet_v2
mobilenetv3: mobilenet_v3_small
regnet: regnet_x_400mf regnet_y_400mf
resnet: resnet18 resnet50@32 resnext50_32x4d@32
shufflenetv2: shufflenet_v2_x0_5
squeezenet: squeezenet1_0 squeezenet1_1
swin_transformer: swin_t@32 swin_v2_t@32
vgg: vgg11@32 vgg11_bn@32
vision_transformer: vit_b_32(image_size=64)
"""

NO_IMAGES_IN = {
    "dinat": "needs natten, which is built for each machine",
    "imagegpt": "takes numbers of colours, by which there is no gradient",
    "shieldgemma2": "takes text beside the image",
}
"""Types of transformers that are left out, and why."""


@dataclass(frozen=True)
class Network:
    """A network that can be built.

    Attributes:
        library: ``"timm"``, ``"torchvision"`` or ``"transformers"``.
        family: The library's module, or type of model.
        name: The library's name, or the class.
        side: Of the square image.
        settings: What makes it small.
    """

    library: str
    family: str
    name: str
    side: int = SIDE
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.library}:{self.family}:{self.name}"

    def build(self) -> nn.Module:
        """Return it in float64 and eval mode, with random weights by a seed, none of them trivial."""
        torch.manual_seed(0)
        model: nn.Module = getattr(self, f"_{self.library}")()
        return enlivened(model.double().eval(), self.inputs())

    def inputs(self) -> Tensor:
        """Return two images, by a seed."""
        drawn = torch.Generator().manual_seed(1)
        return torch.randn(2, 3, self.side, self.side, generator=drawn, dtype=torch.float64)

    def _timm(self) -> Any:
        create = optional("timm", "vision").create_model
        return create(self.name, pretrained=False, num_classes=N_CLASSES, **self.settings)

    def _torchvision(self) -> Any:
        settings = dict(self.settings)
        if self.family in ("googlenet", "inception"):
            settings["init_weights"] = False  # which takes a minute
        models = optional("torchvision.models", "vision")
        return models.get_model(self.name, weights=None, num_classes=N_CLASSES, **settings)

    def _transformers(self) -> Any:
        transformers = optional("transformers", "huggingface")
        settings = {key: value for key, value in SMALL[self.family].items() if key != "side"}
        settings["num_labels"] = N_CLASSES
        configuration = transformers.AutoConfig.for_model(self.family, **settings)
        model = getattr(transformers, self.name)(configuration)
        return _OfPatches(model) if self.family == "siglip2" else model


class _OfPatches(nn.Module):
    """A model that takes the patches of an image, on images."""

    def __init__(self, model: nn.Module, patch: int = 16) -> None:
        super().__init__()
        self.model, self.patch = model, patch

    def forward(self, images: Tensor) -> Any:
        n, channels, height, width = images.shape
        rows, columns = height // self.patch, width // self.patch
        grid = images.view(n, channels, rows, self.patch, columns, self.patch)
        patches = grid.permute(0, 2, 4, 3, 5, 1).reshape(n, rows * columns, -1)
        shapes = torch.tensor([[rows, columns]]).expand(n, 2)
        seen = torch.ones(n, rows * columns, dtype=torch.long)
        return self.model(patches, pixel_attention_mask=seen, spatial_shapes=shapes)


def enlivened(model: nn.Module, inputs: Tensor) -> nn.Module:
    """Return the model with statistics, biases and scales that are not zero, one or all equal.

    Statistics are near those of the inputs, so that neither values nor gradients vanish in a deep network.
    """
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.uniform_(-0.1, 0.1)
            elif value.numel() and bool((value == value.flatten()[0]).all()):
                _vary(value)
        norms = [each for each in model.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
        momenta = [each.momentum for each in norms]
        for norm in norms:
            norm.train()
            norm.momentum = 1.0
        model(torch.cat([inputs, -inputs.roll(1, -1)]))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.eval()
            norm.momentum = momentum
            if norm.running_mean is not None and norm.running_var is not None:
                norm.running_var.clamp_(min=1e-3).mul_(torch.empty_like(norm.running_var).uniform_(0.5, 1.5))
                norm.running_mean.add_(norm.running_var.sqrt() * torch.randn_like(norm.running_mean) * 0.1)
    return model


def _vary(value: Tensor) -> None:
    """Give a parameter of equal values, as norms, scales of layers and heads begin, different ones."""
    if value.ndim > 1 and value.shape[0] > 1 and value[0].numel() > 1:
        value.normal_(0, value[0].numel() ** -0.5)
    elif float(value.flatten()[0].abs()) > 0.1:
        value.mul_(torch.empty_like(value).uniform_(0.5, 1.5))
    else:
        value.uniform_(0.2, 0.6)


def networks() -> list[Network]:
    """Return all networks of installed libraries, in turns of the libraries, so that any part is diverse."""
    return [*_listed("timm", TIMM), *_listed("torchvision", TORCHVISION), *_configured()]


def _listed(library: str, table: str) -> Iterator[Network]:
    for line in table.strip().splitlines():
        family, _, names = line.partition(": ")
        for entry in names.split():
            name, settings, side = re.fullmatch(r"(\w+)(?:\((.*)\))?(?:@(\d+))?", entry).groups()  # type: ignore[union-attr]
            small = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", settings or "")}
            size = side or small.get("img_size") or small.get("image_size") or SIDE
            yield Network(library, family, name, int(size), small)


def _configured() -> Iterator[Network]:
    for family, classes in _types_of_transformers().items():
        for name in (classes,) if isinstance(classes, str) else classes:
            if family in SMALL:
                yield Network("transformers", family, name, SMALL[family].get("side", SIDE))


def _types_of_transformers() -> dict[str, Any]:
    auto = optional("transformers.models.auto.modeling_auto", "huggingface")
    return dict(auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES)


def families_left_out() -> list[str]:
    """Return the families that are installed, of which no network is here and no reason says why."""
    listed = {(each.library, each.family) for each in networks()}
    installed = {("timm", family) for family in optional("timm", "vision").list_modules()}
    models = optional("torchvision.models", "vision")
    for name in models.list_models(module=models):
        installed.add(("torchvision", models.get_model_builder(name).__module__.rpartition(".")[2]))
    installed |= {("transformers", each) for each in _types_of_transformers() if each not in NO_IMAGES_IN}
    return sorted(f"{library}:{family}" for library, family in installed - listed)
