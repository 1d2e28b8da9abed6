"""What is measured: ours beside the passes it cannot do without, and beside what a user would pick."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

import distillgrad as dg
from distillgrad.core.acceleration.accelerate import Precision
from measure import DEVICE, bare_pass


@dataclass(frozen=True)
class Sizes:
    """How large the works are: the real ones, or tiny ones that only show that everything runs.

    Attributes:
        dga: For each network the side of its images, and N for each batch.
        accelerated: The same for networks that are accelerated.
    """

    side: int = 224
    batch: int = 8
    n_steps: int = 30
    guided_steps: int = 20
    dga: Mapping[str, tuple[int, Mapping[int, int]]] = field(default_factory=lambda: NETWORKS)
    accelerated: Mapping[str, tuple[int, Mapping[int, int]]] = field(default_factory=lambda: ACCELERATED)


NETWORKS: dict[str, tuple[int, dict[int, int]]] = {
    "resnet18": (224, {1: 30, 8: 6, 32: 2}),
    "squeezenet1_1": (224, {1: 30, 8: 6, 32: 2}),
    "vit_small_patch16_224": (224, {1: 30, 8: 6, 32: 2}),
    "inception_v3": (299, {1: 30, 8: 6, 32: 2}),
    "vgg16": (224, {1: 30, 8: 6, 32: 2}),
}
"""N is smaller where a pass takes long: more and shorter rounds say more on a machine whose pace changes."""

ACCELERATED: dict[str, tuple[int, dict[int, int]]] = {
    "resnet18": (224, {1: 30, 8: 6, 32: 2}),
    "resnet50": (224, {1: 10, 8: 2}),
    "vit_small_patch16_224": (224, {1: 10, 8: 2}),
}
TARGETS: dict[Precision, float] = {"float32": 0.75, "bfloat16": 0.30}
"""Of the passes of ResNet-18 as it is; other networks are to be no slower than as they are."""

QUICK = Sizes(
    side=64,
    batch=2,
    n_steps=3,
    guided_steps=3,
    dga={
        "resnet18": (64, {1: 3, 2: 3}),
        "squeezenet1_1": (64, {2: 3}),
        "vit_small_patch16_224": (224, {1: 1}),
        "inception_v3": (96, {1: 1}),
        "vgg16": (64, {1: 1}),
    },
    accelerated={"resnet18": (64, {1: 3, 2: 3}), "vit_small_patch16_224": (224, {1: 1})},
)


@dataclass(frozen=True)
class Work:
    """Ours, its floor and perhaps a peer, doing the same.

    Attributes:
        floor_target: Ours may take so many times the floor.
        peer_target: Ours must be so many times faster than the peer.
        memory: For DGA: ``(ours, floor)`` to prepare in fresh processes, and the free bytes beside a pass.
    """

    name: str
    ours: Callable[[], object]
    floor: Callable[[], object]
    floor_target: float
    peer_name: str = ""
    peer: Callable[[], object] | None = None
    peer_target: float = 1.0
    memory: tuple[Callable[[], Callable[[], object]], Callable[[], Callable[[], object]], int] | None = None


def network(name: str) -> nn.Module:
    """A classifier with random weights, the same in every process."""
    torch.manual_seed(0)
    library = "timm" if name.startswith("vit") else "torchvision"
    return dg.load_model(f"{library}:{name}", pretrained=False).model.to(DEVICE)


def images(batch: int, side: int) -> Tensor:
    """Seeded noise."""
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1)).to(DEVICE)


def repeated(model: nn.Module, inputs: Tensor, n_passes: int) -> None:
    """So many bare passes, one after the other."""
    for _ in range(n_passes):
        bare_pass(model, inputs)


def prepared(kind: str, name: str, batch: int, side: int, n_steps: int) -> Callable[[], object]:
    """DGA, or one bare pass, ready to run; what libraries set up once is done."""
    model, inputs = network(name), images(batch, side)
    dga = dg.DGA(model, n_steps=n_steps)
    bare_pass(model, inputs[:1])
    dg.DGA(model, n_steps=1).attribute(inputs[:1])
    if kind == "floor":
        return lambda: bare_pass(model, inputs)
    return lambda: dga.attribute(inputs, [0] * batch)


def dga(name: str, batch: int, side: int, n_steps: int) -> Work:
    """DGA beside N+1 bare passes; on ResNet-18 also beside Captum's Integrated Gradients of as many steps."""
    from captum.attr import IntegratedGradients as Peer

    model, inputs = network(name), images(batch, side)
    method, peer = dg.DGA(model, n_steps=n_steps), Peer(model)
    return Work(
        name=f"DGA, N={n_steps}, {name}, {batch}×3×{side}×{side}",
        ours=lambda: method.attribute(inputs, [0] * batch),
        floor=lambda: repeated(model, inputs, n_steps + 1),
        floor_target=1.03,
        peer_name="Captum's IG",
        peer=(lambda: peer.attribute(inputs, target=0, n_steps=n_steps + 1)) if name == "resnet18" else None,
        memory=(
            partial(prepared, "dga", name, batch, side, n_steps),
            partial(prepared, "floor", name, batch, side, n_steps),
            5 * inputs.nbytes,
        )
        if batch < 32  # which takes no more of a row
        else None,
    )


def dga_accelerated(name: str, batch: int, side: int, n_steps: int, precision: Precision) -> Work:
    """DGA on the accelerated model beside N+1 bare passes, and Captum's IG, of the model as it is."""
    from captum.attr import IntegratedGradients as Peer

    model, inputs = network(name), images(batch, side)
    layout = None if name.startswith("vit") else True  # of its single convolution nothing is to be laid out
    faster = dg.accelerate(model, inputs[:1], precision=precision, channels_last=layout)
    method, peer = dg.DGA(faster, n_steps=n_steps), Peer(model)
    return Work(
        name=f"DGA, N={n_steps}, {name} accelerated in {precision}, {batch}×3×{side}×{side}",
        ours=lambda: method.attribute(inputs, [0] * batch),
        floor=lambda: repeated(model, inputs, n_steps + 1),
        floor_target=TARGETS[precision] if name == "resnet18" else 1.0,
        peer_name="Captum's IG",
        peer=lambda: peer.attribute(inputs, target=0, n_steps=n_steps + 1),
    )


def fullgrad(name: str, sizes: Sizes) -> Work:
    """FullGrad beside one bare pass, and beside pytorch-grad-cam's at the same batch."""
    from pytorch_grad_cam import FullGrad as Peer
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, inputs = network(name), images(sizes.batch, sizes.side)
    ours, peer = dg.FullGrad(model), Peer(network(name), [])
    targets = [ClassifierOutputTarget(0)] * sizes.batch
    return Work(
        name=f"FullGrad, {name}, {sizes.batch}×3×{sizes.side}×{sizes.side}",
        ours=lambda: ours.attribute(inputs, [0] * sizes.batch),
        floor=lambda: bare_pass(model, inputs),
        floor_target=2.0,
        peer_name="pytorch-grad-cam",
        peer=lambda: peer(input_tensor=inputs, targets=targets),
        peer_target=10.0,
    )


def guided_backprop(name: str, sizes: Sizes) -> Work:
    """Guided back-propagation beside one bare pass, and beside Captum's."""
    from captum.attr import GuidedBackprop as Peer

    model, inputs = network(name), images(sizes.batch, sizes.side)
    ours, peer = dg.GuidedBackprop(model), Peer(network(name))
    return Work(
        name=f"guided back-propagation, {name}, {sizes.batch}×3×{sizes.side}×{sizes.side}",
        ours=lambda: ours.attribute(inputs, [0] * sizes.batch),
        floor=lambda: bare_pass(model, inputs),
        floor_target=1.25,
        peer_name="Captum",
        peer=lambda: peer.attribute(inputs.clone().requires_grad_(), target=0),
        peer_target=0.9,
    )


def guided_ig(name: str, sizes: Sizes, *, accelerated: bool) -> Work:
    """Guided IG beside the passes it needs (as many rows at a time as it asks for), and beside PAIR's.

    Floor and peer have the model as it is, ours may have the accelerated one.
    """
    import numpy as np
    from saliency.core import guided_ig as published

    model, inputs = network(name), images(sizes.batch, sizes.side)
    rows: list[int] = []

    def counted(x: Tensor) -> Any:
        rows.append(len(x))
        return model(x)

    target = [0] * sizes.batch
    dg.GuidedIG(counted, n_steps=sizes.guided_steps).attribute(inputs, target)
    faster = dg.accelerate(model, inputs[:1], channels_last=True) if accelerated else model
    ours = dg.GuidedIG(faster, n_steps=sizes.guided_steps)

    def floor() -> None:
        for each in rows:
            bare_pass(model, inputs[:each])

    def gradients(values: Any, **_: Any) -> Any:
        leaf = torch.as_tensor(np.asarray(values), dtype=torch.float32, device=DEVICE).requires_grad_()
        (gradient,) = torch.autograd.grad(model(leaf)[:, 0].sum(), leaf)
        return gradient.cpu().numpy()

    def peer() -> None:
        for image in inputs.cpu().numpy():
            published.guided_ig_impl(
                image, np.zeros_like(image), lambda x: gradients(x[None])[0], steps=sizes.guided_steps
            )

    published.np = _WithOldQuantile(np)  # the package asks numpy for a keyword that is gone
    return Work(
        name=f"Guided IG, {sizes.guided_steps} steps, {name}{' accelerated' * accelerated}, "
        f"{sizes.batch}×3×{sizes.side}×{sizes.side}",
        ours=lambda: ours.attribute(inputs, target),
        floor=floor,
        floor_target=1.25,
        peer_name="saliency (PAIR)",
        peer=peer,
        peer_target=2.0,
    )


class _WithOldQuantile:
    """numpy with ``quantile(interpolation=…)``, which became ``method=…``."""

    def __init__(self, numpy: Any) -> None:
        self.numpy = numpy

    def __getattr__(self, name: str) -> Any:
        return getattr(self.numpy, name)

    def quantile(self, values: Any, fraction: float, interpolation: str) -> Any:
        return self.numpy.quantile(values, fraction, method=interpolation)


def all_works(sizes: Sizes) -> Iterator[Work]:
    """One at a time, so that their models do not fill the memory together."""
    for name, (side, steps) in sizes.dga.items():
        for batch, n_steps in steps.items():
            yield dga(name, batch, side, n_steps)
    for name, (side, steps) in sizes.accelerated.items():
        for (batch, n_steps), precision in product(steps.items(), TARGETS):
            yield dga_accelerated(name, batch, side, n_steps, precision)
    yield fullgrad("resnet18", sizes)
    yield guided_backprop("resnet18", sizes)
    for accelerated in (False, True):
        yield guided_ig("resnet18", sizes, accelerated=accelerated)


GROWING: dict[str, tuple[type[Any], str]] = {
    "DGA": (dg.DistilledGradientAggregation, "n_steps"),
    "IntegratedGradients": (dg.IntegratedGradients, "n_steps"),
    "GuidedIG": (dg.GuidedIG, "n_steps"),
    "SmoothGrad": (dg.SmoothGrad, "n_samples"),
    "RISE": (dg.RISE, "n_masks"),
    "AGI": (dg.AGI, "max_steps"),
}
"""Methods of many passes, and the parameter that says how many."""


def prepared_method(name: str, count: int) -> Callable[[], object]:
    """A method of ``count`` passes (AGI: up to twice as many) on ResNet-18, ready to run."""
    kind, parameter = GROWING[name]
    further = {"n_classes": 1} if name == "AGI" else {}
    model, inputs = network("resnet18"), images(4, 96)
    kind(model, **{parameter: 2}, **further).attribute(inputs, [0] * 4)
    method = kind(model, **{parameter: count}, **further)
    return lambda: method.attribute(inputs, [0] * 4)
