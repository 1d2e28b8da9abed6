"""The metrics' works: ours beside the forward passes they cannot do without, and beside other packages."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import distillgrad as dg
from distillgrad.core.acceleration.accelerate import Precision
from distillgrad.core.optional import optional
from distillgrad.metrics.ensembles import train_ensemble
from distillgrad.metrics.roar_networks import CifarNetwork
from measure import DEVICE
from works import Work, images, network


@dataclass(frozen=True)
class MetricSizes:
    """How large the works are.

    Quantus takes only steps of so many channel values that their number divides that of the pixels: the
    numbers of steps here are three times a divisor of it.
    """

    side: int = 224
    batch: int = 8
    n_steps: int = 21
    small_batch: int = 64
    small_steps: int = 24
    n_masks: int = 20
    trial_images: int = 128


QUICK_METRICS = MetricSizes(
    side=64, batch=2, n_steps=3, small_batch=2, small_steps=3, n_masks=2, trial_images=20
)


def small_network() -> nn.Module:
    """Our own CIFAR-10 classifier, for images of 32×32."""
    return dg.load_model("cifar10-cnn").model.to(DEVICE)


def forward_passes(work: Callable[[Callable[[Tensor], Any]], object], model: nn.Module) -> list[int]:
    """The rows of each forward pass that ``work`` asks of a model."""
    rows: list[int] = []

    def counted(x: Tensor) -> Any:
        rows.append(len(x))
        return model(x)

    work(counted)
    return rows


def bare_forward(model: nn.Module, inputs: Tensor, rows: list[int]) -> None:
    """Forward passes of so many rows, without a graph and nothing else."""
    with torch.no_grad():
        for each in rows:
            model(inputs[:each])


def morf_and_lerf(
    name: str,
    model: nn.Module,
    batch: int,
    side: int,
    n_steps: int,
    faster: float,
    precision: Precision | None = None,
) -> Work:
    """Both curves of a batch beside their forward passes, and beside Quantus' pixel flipping.

    Quantus has no LeRF, which is MoRF of the negated attribution, and does not predict the whole images:
    two runs of it are as many predictions as ours, 2·K of an image, of the same images. With a precision,
    ours and the floor have the accelerated model, as a run has; Quantus has the model as it is.
    """
    optional("torchvision", "vision")  # the peer imports it, and not everywhere as it is
    quantus = optional("quantus", "bench")

    inputs, pixels = images(batch, side), images(batch, side).flip(0).sum(1, keepdim=True)
    target = [0] * batch

    used = dg.accelerate(model, inputs[:1], precision=precision, channels_last=True) if precision else model

    def ours(model: Callable[[Tensor], Any] = used) -> object:
        return dg.metrics.morf_and_lerf(model, inputs, target, pixels, n_steps=n_steps)

    rows = forward_passes(ours, used)
    whole = images(max(rows), side)
    flipping = quantus.PixelFlipping(
        features_in_step=inputs[0].numel() // n_steps,
        normalise=False,
        perturb_baseline=0.0,
        disable_warnings=True,
    )

    def peer() -> None:
        values, classes = inputs.cpu().numpy(), torch.tensor(target).numpy()
        for attribution in (pixels.cpu().numpy(), -pixels.cpu().numpy()):
            flipping(model, values, classes, attribution, device=str(DEVICE), batch_size=batch)

    return Work(
        name=f"MoRF + LeRF, {n_steps} steps, {name}{_accelerated(precision)}, {batch}×3×{side}×{side}",
        ours=ours,
        floor=lambda: bare_forward(used, whole, rows),
        floor_target=1.05,
        peer_name="Quantus",
        peer=peer,
        peer_target=faster,
    )


def sensitivity_n(
    name: str, model: nn.Module, batch: int, side: int, n_masks: int, precision: Precision | None = None
) -> Work:
    """Sensitivity-n of six attributions beside that of one, and beside attribench's of the same six.

    The same number of predictions, too: nine fractions, ``n_masks`` masks of each. With a precision, ours
    have the accelerated model.
    """
    optional("torchvision", "vision")  # the peer imports it, and not everywhere as it is
    attribench = optional("attribench.functional.metrics", "bench")
    maskers = {"constant": optional("attribench.masking.image", "bench").ConstantImageMasker("pixel")}
    inputs, target = images(batch, side), torch.zeros(batch, dtype=torch.long)
    used = dg.accelerate(model, inputs[:1], precision=precision, channels_last=True) if precision else model
    generator = torch.Generator().manual_seed(2)
    six = {f"{number}": torch.randn(batch, 1, side, side, generator=generator) for number in range(6)}
    dataset = optional("attribench.data", "bench").AttributionsDataset(inputs.cpu(), target, attributions=six)

    def peer() -> None:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # its progress bar
            # It asks for four worker processes and pinned memory, whatever there is.
            warnings.simplefilter("ignore")
            attribench.sensitivity_n(
                model,
                dataset,
                batch_size=batch,
                maskers=maskers,
                activation_fns="linear",
                min_subset_size=0.1,
                max_subset_size=0.9,
                num_steps=9,
                num_subsets=n_masks,
                segmented=False,
                device=DEVICE,
            )

    return Work(
        name=f"sensitivity-n, six attributions, {n_masks} masks, {name}{_accelerated(precision)}, "
        f"{batch}×3×{side}×{side}; floor: one",
        ours=lambda: dg.metrics.sensitivity_n(used, inputs, target, six, n_masks=n_masks),
        floor=lambda: dg.metrics.sensitivity_n(used, inputs, target, six["0"], n_masks=n_masks),
        floor_target=1.1,
        peer_name="attribench",
        peer=peer,
        peer_target=5.0,
    )


def _accelerated(precision: Precision | None) -> str:
    return f" accelerated in {precision}" if precision else ""


def stacked_training(sizes: MetricSizes) -> Work:
    """ROAR's trials as one stacked ensemble beside the same trials one by one."""
    inputs = images(sizes.trial_images, 32)
    labels = torch.arange(sizes.trial_images, device=DEVICE) % 10

    def trained(at_a_time: int) -> object:
        return train_ensemble(
            CifarNetwork, inputs, labels, seeds=range(10), n_epochs=1, trials_at_a_time=at_a_time
        )

    return Work(
        name=f"ROAR, 10 trials as one, {sizes.trial_images}×3×32×32; floor: one by one (target: a GPU)",
        ours=lambda: trained(10),
        floor=lambda: trained(1),
        floor_target=0.333,
    )


def metric_works(sizes: MetricSizes) -> Iterator[Work]:
    """One at a time, so that their models do not fill the memory together."""
    for name in ("resnet18", "squeezenet1_1"):
        yield morf_and_lerf(name, network(name), sizes.batch, sizes.side, sizes.n_steps, 1.0)
    small = small_network()
    precisions: tuple[Precision | None, ...] = (None, "float32", "bfloat16")
    for precision in precisions:
        yield morf_and_lerf(
            "cifar10-cnn", small, sizes.small_batch, 32, sizes.small_steps, 5.0, precision=precision
        )
    for precision in precisions:
        yield sensitivity_n("cifar10-cnn", small, sizes.batch, 32, sizes.n_masks, precision=precision)
    yield stacked_training(sizes)
