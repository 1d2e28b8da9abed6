"""What methods along a path and over noise share: completeness, rows of their own, not one pass too many."""

import pytest
import torch
from torch import nn

from distillgrad.errors import ParameterError, UnknownNameError
from distillgrad.methods.agi import AGI
from distillgrad.methods.guided_ig import GuidedIG
from distillgrad.methods.idgi import IDGI
from distillgrad.methods.integrated_gradients import IntegratedGradients
from distillgrad.methods.samp import SAMP
from distillgrad.methods.smoothgrad import SmoothGrad, VarGrad
from distillgrad.methods.spectral_ig import SpectralIG
from networks import convolutional, dense

ALONG_A_PATH = {
    "ig": IntegratedGradients,
    "guided_ig": GuidedIG,
    "idgi": IDGI,
    "idgi guided": lambda model, n: IDGI(model, n, "guided"),
    "idgi spectral": lambda model, n: IDGI(model, n, "spectral"),
    "samp": SAMP,
    "samp plain": lambda model, n: SAMP(model, n, momentum=0, infinitesimal=False),
    "samp insertion": lambda model, n: SAMP(model, n, direction="insertion"),
    "spectral_ig": SpectralIG,
    "agi": lambda model, n: AGI(model, epsilon=1e-6, max_steps=n, n_classes=2),
}
OVER_NOISE = {"smoothgrad": SmoothGrad, "vargrad": VarGrad}
METHODS = ALONG_A_PATH | OVER_NOISE
COMPLETE = [name for name in ALONG_A_PATH if not name.startswith(("idgi", "agi"))]
"""Up to the length of a step; IDGI is so whatever that is, AGI up to a boundary."""


def images(n=3):
    torch.manual_seed(1)
    return torch.randn(n, 2, 6, 6).double()


def linear():
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 4)).double()


def smooth():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(72, 16), nn.Tanh(), nn.Linear(16, 4)).double()


class Counting:
    """A model that counts its calls and the rows of the largest."""

    def __init__(self, model):
        self.model, self.calls, self.rows = model, 0, 0

    def __call__(self, x):
        self.calls, self.rows = self.calls + 1, max(self.rows, len(x))
        return self.model(x)


@pytest.mark.usefixtures("unexamined")
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("n", [10, 100])
def test_the_model_sees_no_more_rows_and_not_one_pass_too_many(name, n):
    network, x = dense(72), images()
    target, model = network(x).argmax(1), Counting(network)
    method = METHODS[name](model, n)
    method.attribute(x, target)
    assert model.rows == len(x)
    if name.startswith("samp"):
        assert min(n, 36) / 2 <= model.calls <= method.n_passes
    else:
        assert model.calls == method.n_passes


@pytest.mark.parametrize("name", METHODS)
def test_rows_do_not_depend_on_their_batch(name):
    model, x = convolutional(), images(5)
    x[2] = 0  # has nothing to explain: neither a difference from the baseline nor a range
    x[3] *= 10
    method = METHODS[name](model, 12)
    whole = method.attribute(x)
    assert name in OVER_NOISE or not whole[2].any()
    assert torch.equal(method.attribute(x), whole)
    torch.manual_seed(99)  # the global generator is not used
    alone = torch.cat([method.attribute(row[None]) for row in x])
    torch.testing.assert_close(alone, whole, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", COMPLETE)
def test_of_a_linear_model_they_have_the_weights(name):
    x, baseline, model = images(), 0.3, linear()
    expected = model[1].weight.detach()[1].view(2, 6, 6) * (x - baseline)
    found = METHODS[name](model, 6).attribute(x, 1, baselines=baseline)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


# The plain steps of SAMP move whole pixels, however many there are.
@pytest.mark.parametrize("name", [name for name in COMPLETE if name != "samp plain"])
def test_paths_are_complete(name):
    x, baseline = images(), 0.3
    model = dense(72) if name in ("ig", "guided_ig") else smooth()
    found = METHODS[name](model, 400).attribute(x, 1, baselines=baseline).flatten(1).sum(1)
    change = (model(x) - model(torch.full_like(x, baseline)))[:, 1].detach()
    torch.testing.assert_close(found, change, rtol=0, atol=5e-3 if name in ("ig", "guided_ig") else 5e-2)


@pytest.mark.parametrize(
    ("method", "wrong", "error"),
    [
        (IntegratedGradients, {"n_steps": 0}, ParameterError),
        (IntegratedGradients, {"n_steps": 2.0}, ParameterError),
        (IntegratedGradients, {"method": "riemann_left", "n_steps": 1}, ParameterError),
        (IntegratedGradients, {"method": "gauss"}, UnknownNameError),
        (GuidedIG, {"n_steps": True}, ParameterError),
        (GuidedIG, {"fraction": 0}, ParameterError),
        (GuidedIG, {"fraction": float("nan")}, ParameterError),
        (GuidedIG, {"max_dist": 1.1}, ParameterError),
        (SmoothGrad, {"n_samples": 0}, ParameterError),
        (SmoothGrad, {"noise": -0.1}, ParameterError),
        (SmoothGrad, {"noise": float("inf")}, ParameterError),
        (SmoothGrad, {"seed": 0.5}, ParameterError),
        (SmoothGrad, {"kind": "vargard"}, UnknownNameError),
        (VarGrad, {"n_samples": -1}, ParameterError),
        (AGI, {"epsilon": 0}, ParameterError),
        (AGI, {"max_steps": 0}, ParameterError),
        (AGI, {"n_classes": 0}, ParameterError),
        (AGI, {"seed": -1}, ParameterError),
        (AGI, {"clamp": (1.0, 0.0)}, ParameterError),
        (IDGI, {"n_steps": 0}, ParameterError),
        (IDGI, {"path": "striaght"}, UnknownNameError),
        (SAMP, {"n_steps": 0}, ParameterError),
        (SAMP, {"momentum": 1.0}, ParameterError),
        (SAMP, {"momentum": float("nan")}, ParameterError),
        (SAMP, {"direction": "up"}, UnknownNameError),
        (SpectralIG, {"n_steps": 1.5}, ParameterError),
        (SpectralIG, {"overlap": 0.0}, ParameterError),
        (SpectralIG, {"overlap": 1.1}, ParameterError),
    ],
)
def test_parameters_outside_their_range(method, wrong, error):
    with pytest.raises(error, match=f"{next(reversed(wrong))}|quadrature"):
        method(linear(), **wrong)
