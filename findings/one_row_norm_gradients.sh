#!/usr/bin/env bash
# torch 2.13.0, CPU: the gradient of ONE row through F.batch_norm and F.instance_norm depends on the strides of the
# gradient that arrives, and is wrong where they are channels-last.
#
# Guess: a row alone has the gradient that it has in a batch; strides are a matter of speed.
# Seen: off by 1.0 and by 1.3 of the largest value, in float64; finite differences agree with the batch of two.
# A tensor of one row calls itself contiguous in both layouts, so that .contiguous() does not copy it.
#
# Exits 0 while that is so, 1 when it has changed. Installs into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.3.5
"$folder/venv/bin/python" - <<'PY'
import sys

import torch
from torch.nn import functional

torch.manual_seed(0)
ROWS = torch.randn(2, 8, 6, 6, dtype=torch.double)
WEIGHT, VARIANCE = (torch.rand(8, dtype=torch.double) + 0.5 for _ in range(2))
BIAS, MEAN = (torch.randn(8, dtype=torch.double) for _ in range(2))
HEAD = torch.randn(8, 5, dtype=torch.double)
KERNEL = torch.randn(5, 8, 3, 3, dtype=torch.double)


def batch_norm(x):
    """Tokens of a normalised image, classified: the gradient arrives transposed."""
    tokens = functional.batch_norm(x, MEAN, VARIANCE, WEIGHT, BIAS).flatten(2).transpose(1, 2)
    return (tokens @ HEAD).amax(1).sum()


def instance_norm(x):
    """A convolution in channels_last follows: the gradient arrives in that layout."""
    normalised = functional.instance_norm(x, weight=WEIGHT, bias=BIAS)
    return functional.conv2d(normalised.to(memory_format=torch.channels_last), KERNEL).square().sum()


def gradient(function, rows):
    leaf = rows.detach().requires_grad_()
    return torch.autograd.grad(function(leaf), leaf)[0]


def differences(function, rows, places, step=1e-6):
    found = []
    for place in places:
        moved = torch.zeros_like(rows)
        moved.view(-1)[place] = step
        found.append((function(rows + moved) - function(rows - moved)) / (2 * step))
    return torch.stack(found)


print("torch", torch.__version__)
as_stated = True
for function in (batch_norm, instance_norm):
    in_batch, alone = gradient(function, ROWS)[:1], gradient(function, ROWS[:1])
    largest, places = in_batch.abs().max(), range(0, 288, 37)
    apart = ((alone - in_batch).abs().max() / largest).item()
    numeric = differences(function, ROWS[:1], places)
    to_batch = ((numeric - in_batch.flatten()[list(places)]).abs().max() / largest).item()
    print(f"{function.__name__}: alone against in a batch {apart:.3f}; finite differences against the batch {to_batch:.1e}")
    as_stated &= apart > 0.5 and to_batch < 1e-6
sys.exit(0 if as_stated else 1)
PY
