"""Small configurations of transformers' image classifiers, a dictionary for each type of model."""

from __future__ import annotations

from typing import Any

_VIT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 64,
    "patch_size": 16,
}
_STAGES: dict[str, Any] = {"hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 1, 1]}
_SWIN: dict[str, Any] = {
    "embed_dim": 16,
    "depths": [1, 1, 2, 1],
    "num_heads": [1, 2, 2, 4],
    "window_size": 2,
    "image_size": 64,
}
_PYRAMID: dict[str, Any] = {
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [16, 24, 32, 48],
    "num_attention_heads": [1, 2, 2, 4],
}
_PERCEIVER: dict[str, Any] = {
    "num_latents": 8,
    "d_latents": 32,
    "d_model": 32,
    "num_self_attends_per_block": 2,
    "num_self_attention_heads": 2,
    "num_cross_attention_heads": 1,
}

SMALL: dict[str, dict[str, Any]] = {
    "beit": {**_VIT, "use_relative_position_bias": True},
    "bit": {**_STAGES, "embedding_size": 16, "num_groups": 4},
    "clip": {"vision_config": {**_VIT, "projection_dim": 32}},
    "convnext": {**_STAGES},
    "convnextv2": {**_STAGES},
    "cvt": {"embed_dim": [16, 32, 48], "num_heads": [1, 2, 3], "depth": [1, 2, 3]},
    "data2vec-vision": {**_VIT, "use_relative_position_bias": True},
    "deit": {**_VIT},
    "dinov2": {**_VIT},
    "dinov2_with_registers": {**_VIT},
    "donut-swin": {**_SWIN},
    "efficientnet": {"width_coefficient": 0.5, "depth_coefficient": 0.5, "hidden_dim": 640, "image_size": 64},
    "focalnet": {"embed_dim": 16, "hidden_sizes": [24, 32, 48, 48], "depths": [1, 1, 2, 1], "image_size": 64},
    "hgnet_v2": {
        "embedding_size": 16,
        "hidden_sizes": [32, 48, 64, 96],
        "depths": [1, 1, 1, 1],
        "stem_channels": [3, 16, 16],
        "stage_in_channels": [16, 32, 48, 64],
        "stage_mid_channels": [16, 16, 24, 32],
        "stage_out_channels": [32, 48, 64, 96],
        "stage_num_blocks": [1, 1, 1, 1],
        "stage_numb_of_layers": [2, 2, 2, 2],
    },
    "hiera": {
        "embed_dim": 16,
        "depths": [1, 1, 2, 1],
        "num_heads": [1, 1, 2, 4],
        "image_size": [64, 64],
    },
    "ijepa": {**_VIT},
    "levit": {
        "image_size": 64,
        "hidden_sizes": [32, 48, 64],
        "num_attention_heads": [2, 3, 4],
        "depths": [1, 1, 1],
        "key_dim": [8, 8, 8],
    },
    "metaclip_2": {"vision_config": {**_VIT, "projection_dim": 32}},
    "mobilenet_v1": {"depth_multiplier": 0.25},
    "mobilenet_v2": {"depth_multiplier": 0.25},
    "mobilevit": {
        "hidden_sizes": [16, 24, 32],
        "neck_hidden_sizes": [8, 8, 16, 16, 24, 32, 48],
        "num_attention_heads": 2,
        "image_size": 64,
    },
    "mobilevitv2": {"width_multiplier": 0.25, "n_attn_blocks": [1, 1, 1], "image_size": 64},
    "perceiver": {**_PERCEIVER, "image_size": 32, "side": 32},
    "poolformer": {**_STAGES},
    "pp_lcnet": {"scale": 0.25, "class_expand": 64},
    "pvt": {**_PYRAMID, "image_size": 64},
    "pvt_v2": {**_PYRAMID, "image_size": 64},
    "regnet": {**_STAGES, "embedding_size": 8, "groups_width": 8},
    "resnet": {**_STAGES, "embedding_size": 8},
    "segformer": {**_PYRAMID},
    "siglip": {"vision_config": {**_VIT}},
    "siglip2": {"vision_config": {**_VIT, "num_patches": 16}},
    "swiftformer": {"depths": [1, 1, 1, 1], "embed_dims": [16, 24, 32, 48], "image_size": 64},
    "swin": {**_SWIN},
    "swinv2": {**_SWIN},
    "textnet": {
        "stem_out_channels": 16,
        "conv_layer_kernel_sizes": [[[3, 3]], [[3, 3], [1, 3]], [[3, 3], [3, 1]], [[3, 3]]],
        "conv_layer_strides": [[2], [2, 1], [2, 1], [2]],
        "hidden_sizes": [16, 16, 24, 32, 48],
    },
    "timm_wrapper": {"architecture": "mobilenetv3_small_050"},
    "vit": {**_VIT},
    "vit_msn": {**_VIT},
}
"""By type of model, as transformers calls it; ``side`` is that of the image where it is not the usual one."""
