#!/usr/bin/env bash
# torch 2.13.0: taking the parametrisation off a deep copy of a layer takes it off the original, too, by half.
#
# Guess: a deep copy shares nothing with the original; what is done to the copy leaves the original as it was.
# Seen: the copy has the very class that parametrisation made for the original, and remove_parametrizations deletes
# the property `weight` from that class. The original still holds its parametrisations, and has no `weight` any more.
#
# Exits 0 while that is so, 1 when it has changed. Installs into a temporary folder.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.3.5
"$folder/venv/bin/python" - <<'PY'
import copy
import sys

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

original = parametrizations.weight_norm(nn.Linear(3, 2))
image = torch.ones(1, 3)
original(image)
duplicate = copy.deepcopy(original)
shared = type(duplicate) is type(original)
parametrize.remove_parametrizations(duplicate, "weight")
duplicate(image)
try:
    original(image)
    lost = ""
except AttributeError as error:
    lost = str(error)
print(f"torch {torch.__version__}: the copy has the original's class: {shared}")
print(f"still parametrised: {parametrize.is_parametrized(original)}; when called: {lost or 'works'}")
as_described = shared and "weight" in lost
print("as described" if as_described else "CHANGED")
sys.exit(not as_described)
PY
