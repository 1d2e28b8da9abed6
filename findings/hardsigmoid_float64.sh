#!/usr/bin/env bash
# torch 2.13.0, CPU: the gradient of hardsigmoid in float64 is that of float32.
#
# Guess: a function computed in float64 has a gradient that is right to some 1e-16.
# Seen: within (-3, 3) the slope is 0.1666666716337204, which is 1/6 rounded to float32; off by 3e-8 of itself. The
# values are right, and hardswish, which is x times it, has the right slope. MobileNetV3 (squeeze and excitation) meets it.
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

POINT = torch.zeros(1, dtype=torch.double)


def slope(function):
    point = POINT.clone().requires_grad_()
    function(point).backward()
    return point.grad.item()


def rise(function):
    """The same by values alone: hardsigmoid is a straight line there."""
    return (function(POINT + 1) - function(POINT - 1)).item() / 2


gradient, values = slope(functional.hardsigmoid), rise(functional.hardsigmoid)
single = torch.tensor(1 / 6, dtype=torch.float32).item()
print(f"torch {torch.__version__}: slope by gradient {gradient!r}, by values {values!r}; 1/6 in float32 {single!r}")
print(f"hardswish at 0, by gradient {slope(functional.hardswish)!r}")
as_described = gradient == single and abs(values - 1 / 6) < 1e-15 and slope(functional.hardswish) == 0.5
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PY
