"""Small models of every kind that the methods must handle."""

from collections import OrderedDict
from types import SimpleNamespace

import torch
from torch import nn
from torch.nn.functional import relu

import distillgrad as dg

SMALL = {
    "dga": {"n_steps": 3},
    "stable_dga": {"n_steps": 3, "n_rankings": 2},
    "smoothgrad": {"n_samples": 3},
    "vargrad": {"n_samples": 3},
    "integrated_gradients": {"n_steps": 4},
    "guided_ig": {"n_steps": 4},
    "idgi": {"n_steps": 4},
    "samp": {"n_steps": 4},
    "spectral_ig": {"n_steps": 4},
    "agi": {"n_classes": 2, "max_steps": 2},
    "rise": {"n_masks": 8, "cells": 3},
    "lime": {"n_samples": 12, "cells": 2},
    "xrai": {"n_steps": 3},
}
"""Parameters with which each method takes a moment."""


def made(method, model):
    return dg.create_method(method, model, **SMALL.get(method, {}))


def dense(n_inputs=12, n_classes=4, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(n_inputs, 16), nn.ReLU(), nn.Linear(16, 9), nn.ReLU(), nn.Linear(9, n_classes)
    ).double()


def convolutional(seed=0):
    """For inputs (N, 2, 6, 6); batch norm with statistics that are not the initial ones."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(2, 5, 3, padding=1),
        nn.BatchNorm2d(5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6, 4),
    ).double()
    model(torch.randn(16, 2, 6, 6).double())
    return model.eval()


def with_ties(model):
    """The same network with weights of few values, so that attributions of many features are equal.

    All are quarters and batch norm only shifts and scales by such: sums are exact whatever their order, so
    that a tie is a tie for everybody.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_((parameter * 4).round() / 4)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.zero_()
                module.running_var.fill_(1)
                module.eps = 0.0
    return model


def lively(name, dtype=torch.float32):
    """A torchvision classifier: random weights with biases and statistics that are not zero and one."""
    torch.manual_seed(0)
    model = dg.load_model(f"torchvision:{name}", pretrained=False).model
    with torch.no_grad():
        for key, value in [*model.named_parameters(), *model.named_buffers()]:
            if key.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif key.endswith(("bias", "running_mean")):
                value.uniform_(-0.1, 0.1)
            elif "conv.weight" in key:
                nn.init.kaiming_normal_(value)
    return model.to(dtype)


class FunctionalReused(nn.Module):
    """Functional, in-place and reused ReLUs; the first operation writes into its input."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(4 * 36, 4)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.relu(x.add_(0.5))
        x = relu(self.first(x)) - 0.1
        return self.second(self.relu(x - 0.1).flatten(1).mul(2).relu_())


class Wrapped(nn.Module):
    """A model whose logits are inside something else."""

    def __init__(self, wrap):
        super().__init__()
        self.inner, self.wrap = convolutional(), wrap

    def forward(self, x):
        return self.wrap(self.inner(x))


class WithDropout(nn.Module):
    """Trains its batch norm and drops features unless it is put into eval mode."""

    def __init__(self):
        super().__init__()
        self.inner, self.dropout = convolutional(), nn.Dropout(0.5)

    def forward(self, x):
        return self.inner(self.dropout(x))


def zoo():
    """By name, models for inputs (N, 2, 6, 6)."""
    torch.manual_seed(0)
    training = WithDropout().train()
    training.inner[1].eval()  # one module's own flag that must come back as it is
    return {
        "convolutional": convolutional(),
        "dense": dense(72),
        "functional, in place, reused": FunctionalReused().double().eval(),
        "training": training,
        "tuple": Wrapped(lambda logits: (logits, logits * 2)).eval(),
        "dict": Wrapped(lambda logits: {"loss": None, "logits": logits}).eval(),
        "ordered dict": Wrapped(lambda logits: OrderedDict(logits=logits, hidden=logits)).eval(),
        "attribute": Wrapped(lambda logits: SimpleNamespace(logits=logits)).eval(),
        "scalar": Wrapped(lambda logits: logits[:, 0]).eval(),
    }
