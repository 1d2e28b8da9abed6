"""Equations 4–12 of Jeon et al. 2022, written down literally: one sample, explicit rank counts, no speed."""

import torch


def ranks(values):
    """|{k : v_k ≤ v_j}| for each j (eq. 6 and 9)."""
    numbers = values.tolist()  # of which Python compares a pair in a hundredth of the time of two tensors
    return torch.tensor([sum(other <= value for other in numbers) for value in numbers])


def value_and_gradient(model, x, target):
    x = x.clone().requires_grad_()
    value = model(x[None])[0, target]
    (gradient,) = torch.autograd.grad(value, x)
    return value.detach(), gradient


def uniform_fullgrad(model, x, baseline, target):
    """Eq. 4: the bias sum of a piecewise-linear network is f(x) − ⟨∇f, x⟩."""
    value, gradient = value_and_gradient(model, x, target)
    linear = gradient * (x - baseline)
    return linear + (value - linear.sum()) / x.numel()


def gradient_x_input(model, x, baseline, target):
    _, gradient = value_and_gradient(model, x, target)
    return gradient * (x - baseline)


def weak_contributor_mask(attribution, n, n_steps):
    """Eq. 7."""
    size = attribution.numel()
    kept = [rank / size > n / n_steps for rank in ranks(attribution.abs().flatten()).tolist()]
    return torch.tensor(kept, dtype=attribution.dtype).view_as(attribution)


def extreme_positive_contributor_mask(attribution, quantile):
    """Eq. 10."""
    size = attribution.numel()
    kept = [rank / size <= quantile for rank in ranks(attribution.flatten()).tolist()]
    return torch.tensor(kept, dtype=attribution.dtype).view_as(attribution)


def dga(
    model,
    x,
    target,
    *,
    n_steps=30,
    quantile=0.9,
    negative_scale=0.0,
    baseline=0.0,
    local=uniform_fullgrad,
    masks="both",
):
    """Algorithm 1; returns the mean over its anchors, and the anchors."""
    baseline = torch.as_tensor(baseline, dtype=x.dtype)
    anchors, total = [x], torch.zeros_like(x)
    for n in range(n_steps + 1):
        attribution = local(model, anchors[-1], baseline, target)
        total += attribution.clamp(min=0) + negative_scale * attribution.clamp(max=0)
        weak = n / n_steps * weak_contributor_mask(attribution, n, n_steps)
        extreme = (1 - n / n_steps) * extreme_positive_contributor_mask(attribution, quantile)
        mask = {"both": weak + extreme, "weak": weak, "extreme": extreme}[masks]
        anchors.append(baseline + mask * (x - baseline))
    return total / (n_steps + 1), torch.stack(anchors[:-1])
