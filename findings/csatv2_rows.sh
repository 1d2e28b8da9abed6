#!/usr/bin/env bash
# timm 1.0.31: in csatv2's spatial attention the rows of a batch attend to each other, and to no pixel.
#
# Guess: attention over the 49 places of a map, for each image by itself.
# Seen: queries and keys are (rows, places), so that q @ k.T is (rows, rows): the output for one image has a gradient by
# the tokens of another. It goes unnoticed in the logits, for the norm before it is over one channel and leaves nothing
# but its bias: with the image replaced by another, what attention adds stays the same.
#
# Exits 0 while that is so, 1 when it has changed. Installs into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
pip torch==2.13.0 numpy==2.3.5
pip torchvision==0.28.0 timm==1.0.31
"$folder/venv/bin/python" - <<'PY'
import sys

import torch

# torchvision's compiled operations need the CUDA build of torch; nothing here calls them.
operations = torch.library.Library("torchvision", "DEF")
for operation in ("nms", "qnms"):
    operations.define(f"{operation}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import timm
from timm.models.csatv2 import SpatialTransformerBlock

torch.manual_seed(0)
block = SpatialTransformerBlock().double().eval()
torch.nn.init.normal_(block.norm1.bias)
images = torch.randn(3, 1, 7, 7, dtype=torch.double)
normed = []
block.norm1.register_forward_hook(lambda module, inputs, output: normed.append(output))
added = block(images) - images
(by_tokens,) = torch.autograd.grad(added[0].square().sum(), normed[0], retain_graph=True)
others = by_tokens[1:].abs().max().item()
moved = (block(images.flip(0)) - images.flip(0) - added).abs().max().item()
distance = (images.flip(0) - images).abs().max().item()
print(f"timm {timm.__version__}, torch {torch.__version__}")
print(f"the first image's output has gradients by the tokens of the other images: up to {others:.2g}")
print(f"with other images, up to {distance:.2g} away, what the block adds changes by {moved:.1g}")
as_described = others > 1e-6 and moved < 1e-12
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PY
