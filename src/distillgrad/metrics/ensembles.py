"""Training the same network from several seeds: the trials of an experiment, together or one by one."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.nn.modules.dropout import _DropoutNd

from distillgrad.core.batch import outside_inference_mode
from distillgrad.core.chunks import in_chunks
from distillgrad.core.eval_mode import evaluating
from distillgrad.core.forward import scores
from distillgrad.core.logits import logits_of
from distillgrad.core.plan import Plan
from distillgrad.errors import ModelError, ParameterError
from distillgrad.metrics.ensemble_memory import best_at_a_time
from distillgrad.metrics.labelled_images import check_classes, check_labelled

ROWS_TO_PREDICT = 512


@dataclass(frozen=True)
class Ensemble:
    """The T trained networks of one architecture.

    Attributes:
        template: The architecture; its own parameters mean nothing.
        state: By name, the parameters and buffers of all networks, ``(T, …)``.
        trials_at_a_time: How many of them run as one.
    """

    template: nn.Module
    state: dict[str, Tensor]
    trials_at_a_time: int

    def __len__(self) -> int:
        return len(next(iter(self.state.values())))

    def network(self, trial: int) -> nn.Module:
        """Return one of the networks by itself, in eval mode: a copy, for instance to explain."""
        network = copy.deepcopy(self.template).eval()
        own = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(self.state[name][trial])
        return network

    def logits(self, images: Tensor) -> Tensor:
        """Return the logits ``(T, N, K)`` of images ``(N, C, H, W)``."""

        def of_rows(chosen: slice) -> Tensor:
            groups = _groups(self.state, self.trials_at_a_time)
            parts = [_forward(self.template, group, images[chosen]) for group in groups]
            return torch.cat(parts).transpose(0, 1)

        with evaluating(self.template), outside_inference_mode():
            return in_chunks(of_rows, Plan(len(images), ROWS_TO_PREDICT)).transpose(0, 1)

    def accuracy(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return each network's share of the images that it classifies as labelled, ``(T,)`` float64."""
        correct = (self.logits(images).argmax(2) == labels.to(images.device)).sum(1)
        return correct.cpu().double() / len(images)


def train_ensemble(
    make_network: Callable[[], nn.Module],
    images: Tensor,
    labels: Tensor,
    *,
    seeds: Sequence[int],
    n_epochs: int = 100,
    batch_size: int = 64,
    learning_rate: float = 3e-4,
    trials_at_a_time: int | None = None,
    bfloat16: bool = False,
    on_epoch: Callable[[int, Tensor], None] | None = None,
) -> Ensemble:
    """Return the networks that Adam makes of cross-entropy, one for each seed.

    A seed fixes a network's first parameters and the order of its batches, both drawn on the CPU: a trial
    is the same whatever trials are beside it, to the rounding of the arithmetic. The last batch of an epoch
    may be smaller. Batch norm keeps the statistics of each trial. Global random numbers stay as they are.

    Args:
        make_network: Makes a new network; its images' device and dtype are given to it.
        images: ``(N, C, H, W)``, model-normalised, on the device to train on; shared by the trials.
        labels: Classes ``(N,)``.
        seeds: One per trial, none twice.
        n_epochs, learning_rate: As in the paper, unless given.
        batch_size: On which the paper is silent.
        trials_at_a_time: How many run as one, by ``vmap``, while the others wait for them: memory holds the
            activations of so many. By default one on a CPU, which that makes no faster, on a GPU as many
            as fit into what is free.
        bfloat16: Let autocast compute in bfloat16, which a CPU may do twice as fast.
        on_epoch: Called after each epoch with its number, from 1, and the mean loss of each trial, ``(T,)``.
    Raises:
        InputError: images and labels that do not belong together.
        TargetError: a label that the network has no logit for.
        ParameterError: a setting outside its range, a seed twice.
        ModelError: the network fails, has dropout, whose draws would depend on the trials beside it, is not
            made anew each time, or training diverged.
    Cost: T·n_epochs·N forward and backward passes of one image; memory for T times four copies of the
        parameters.
    Source: Jeon et al. 2022, §4.3 (Adam, rate 3e-4, 100 epochs, 10 trials).
    """
    _check_settings(seeds, n_epochs, batch_size, learning_rate, trials_at_a_time)
    check_labelled(images, labels)
    with outside_inference_mode():
        template, groups = _begun(make_network, seeds, images, batch_size, trials_at_a_time)
        labels = check_classes(labels, n_classes_of(template, images)).to(images.device)
        leaves = [value for group in groups for value in group.values() if value.requires_grad]
        optimizer = torch.optim.Adam(leaves, learning_rate, fused=images.device.type in ("cpu", "cuda"))
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        sizes = [len(next(iter(group.values()))) for group in groups]
        for epoch in range(1, n_epochs + 1):
            orders = torch.stack(
                [torch.randperm(len(images), generator=each, device="cpu") for each in generators]
            )
            total = torch.zeros(len(seeds), device=images.device)
            for chosen in torch.split(orders.to(images.device), batch_size, dim=1):
                optimizer.zero_grad()
                losses = [
                    _backward(template, group, images[rows], labels[rows], bfloat16)
                    for group, rows in zip(groups, torch.split(chosen, sizes), strict=True)
                ]
                optimizer.step()
                total += torch.cat(losses) * chosen.shape[1]
            _check_finite(total, seeds, epoch)
            if on_epoch is not None:
                on_epoch(epoch, total.cpu() / len(images))
        state = {name: torch.cat([group[name].detach() for group in groups]) for name in groups[0]}
        return Ensemble(template.eval(), state, max(sizes))


def new_network(make_network: Callable[[], nn.Module], seed: int, images: Tensor) -> nn.Module:
    """Return the network that a trial begins with, in train mode, with the images' device and dtype.

    Raises:
        ModelError: it is no module, or has dropout.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # where the same seed draws the same weights
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every other device, too
        network = make_network()
    if not isinstance(network, nn.Module):
        raise ModelError(f"make_network must return an nn.Module, not a {type(network).__name__}")
    dropping = [name for name, each in network.named_modules() if isinstance(each, _DropoutNd) and each.p]
    if dropping:
        raise ModelError(
            f"{dropping[0] or 'the network'} drops features at random, by draws that depend on the trials "
            "trained beside it; leave dropout out of the network, or set its p to 0"
        )
    return network.to(images.device, images.dtype).train()


def n_classes_of(network: nn.Module, images: Tensor) -> int:
    """Return the number K of the network's logits ``(N, K)``.

    Raises:
        ModelError: the network fails on the images, or does not return such logits.
    """
    shapes: list[torch.Size] = []

    def looked_at(output: object) -> Tensor:
        logits = logits_of(output)
        shapes.append(logits.shape)
        return logits.new_zeros(1)

    with evaluating(network), outside_inference_mode():
        scores(network, images[:1], looked_at)
    if len(shapes[0]) != 2 or shapes[0][0] != 1:
        raise ModelError(f"the network's output has shape {tuple(shapes[0])} for one image; expected (1, K)")
    return shapes[0][1]


def _check_settings(
    seeds: Sequence[int], n_epochs: int, batch_size: int, learning_rate: float, trials_at_a_time: int | None
) -> None:
    if not seeds or len(set(seeds)) < len(seeds):
        raise ParameterError(f"seeds must be given, one per trial and none twice; got {list(seeds)}")
    counts = {"n_epochs": n_epochs, "batch_size": batch_size, "trials_at_a_time": trials_at_a_time}
    for name, count in counts.items():
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            raise ParameterError(f"{name} must be a whole number of at least 1, not {count!r}")
    if not 0 < learning_rate < math.inf:
        raise ParameterError(f"learning_rate must be above 0 and finite, not {learning_rate!r}")


def _check_finite(total: Tensor, seeds: Sequence[int], epoch: int) -> None:
    diverged = [seed for seed, fine in zip(seeds, total.isfinite().tolist(), strict=True) if not fine]
    if diverged:
        raise ModelError(
            f"training diverged in epoch {epoch} for seed{'s' if len(diverged) > 1 else ''} "
            f"{', '.join(map(str, diverged))}: the loss is not finite; lower the learning rate"
        )


def _begun(
    make_network: Callable[[], nn.Module],
    seeds: Sequence[int],
    images: Tensor,
    batch_size: int,
    trials_at_a_time: int | None,
) -> tuple[nn.Module, list[dict[str, Tensor]]]:
    """Return the architecture, and in groups that run as one what trials begin with."""
    networks = [new_network(make_network, seed, images) for seed in seeds]
    if len(set(map(id, networks))) < len(networks):
        raise ModelError(
            "make_network gave the same network twice; let it make a new one each time: the class itself, "
            "or lambda: Network()"
        )
    if not any(parameter.requires_grad for parameter in networks[0].parameters()):
        raise ModelError("the network has no parameters to train")
    size = trials_at_a_time or best_at_a_time(networks[0], len(seeds), images, batch_size)
    return networks[0], [_stacked(networks[start : start + size]) for start in range(0, len(seeds), size)]


def _stacked(networks: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Return parameters, as leaves to train, and buffers of several networks, ``(G, …)``."""
    states = [{**dict(each.named_parameters()), **dict(each.named_buffers())} for each in networks]
    stacked = {}
    for name, first in states[0].items():
        if len(states) > 1:
            value = torch.stack([state[name].detach() for state in states])
        elif first.ndim == 4:  # of a convolution, which a CPU computes faster with channels last
            value = first.detach().clone(memory_format=torch.channels_last)[None]
        else:
            value = first.detach().clone()[None]
        stacked[name] = value.requires_grad_(first.requires_grad)
    return stacked


def _groups(state: dict[str, Tensor], size: int) -> Iterator[dict[str, Tensor]]:
    n_trials = len(next(iter(state.values())))
    for start in range(0, n_trials, size):
        yield {name: value[start : start + size] for name, value in state.items()}


def _forward(template: nn.Module, group: dict[str, Tensor], images: Tensor) -> Tensor:
    """Return logits ``(G, N, K)`` of a group's networks for ``(N, C, H, W)``, or for ``(G, N, …)``."""

    def one(state: dict[str, Tensor], rows: Tensor) -> Tensor:
        return logits_of(functional_call(template, state, (rows,)))

    own_images = images.ndim == 5
    if len(next(iter(group.values()))) > 1:
        return torch.vmap(one, in_dims=(0, 0 if own_images else None))(group, images)
    alone = {name: value.squeeze(0) for name, value in group.items()}
    rows = images[0] if own_images else images
    return one(alone, rows.contiguous(memory_format=torch.channels_last))[None]


def _backward(
    template: nn.Module, group: dict[str, Tensor], images: Tensor, labels: Tensor, bfloat16: bool
) -> Tensor:
    """Return the loss of each network, ``(G,)``, whose gradients it leaves in the group's leaves."""
    with torch.inference_mode(False), torch.enable_grad():
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
            logits = _forward(template, group, images)
        logits = logits.float() if bfloat16 else logits
        each = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        losses = each.view_as(labels).mean(1)
        # Trials share no parameter: each gets the gradient of its own loss.
        torch.autograd.backward(losses, torch.ones_like(losses))
    return losses.detach()
