"""Memory of training one more trial, and so how many of them can run as one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from distillgrad.core.logits import logits_of

HELD_BACK = 0.1
"""The share of the free memory that is left for what the allocator rounds up and convolutions work in."""


@dataclass(frozen=True)
class TrialMemory:
    """The bytes that a trial holds while it trains; images and labels are shared by all.

    Attributes:
        parameters: Four copies: the parameters, their gradients, Adam's two moments; and the buffers.
        activations: What one batch's forward pass keeps for its backward pass.
        working: Twice the largest of these: a gradient and the one that it is made of.
    """

    parameters: int
    activations: int
    working: int

    @property
    def total(self) -> int:
        """The bytes of one trial."""
        return self.parameters + self.activations + self.working


def memory_of_a_trial(network: nn.Module, images: Tensor, batch_size: int) -> TrialMemory:
    """Count what autograd keeps in one forward pass of a batch; each storage once.

    Args:
        network: In train mode, on the images' device; its state stays as it is.
        images: ``(N, C, H, W)``, of which the first ``batch_size`` are used.
    Cost: one forward pass.
    """
    state = {
        **{name: each.detach().clone().requires_grad_() for name, each in network.named_parameters()},
        **{name: each.detach().clone() for name, each in network.named_buffers()},
    }
    rows = images[:batch_size].clone()
    known = {each.untyped_storage().data_ptr() for each in (*state.values(), rows)}
    kept: dict[int, int] = {}

    def counted(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(counted, lambda value: value),
    ):
        logits = logits_of(functional_call(network, state, (rows,)))
        loss = cross_entropy(logits, logits.new_zeros(len(rows), dtype=torch.int64))
    del loss  # until here the graph keeps every storage, so that no address is counted for two
    parameters = sum(each.nbytes for each in state.values() if each.requires_grad)
    buffers = sum(each.nbytes for each in state.values() if not each.requires_grad)
    return TrialMemory(4 * parameters + buffers, sum(kept.values()), 2 * max(kept.values(), default=0))


def trials_that_fit(trial: TrialMemory, n_trials: int, free: int) -> int:
    """Return how many trials may run as one: all keep their parameters, only those their activations.

    At least 1, at most ``n_trials``.

    Args:
        free: Bytes of the device that nothing holds yet.
    """
    rest = (1 - HELD_BACK) * free - n_trials * trial.parameters
    return max(1, min(n_trials, int(rest // (trial.activations + trial.working))))


def best_at_a_time(network: nn.Module, n_trials: int, images: Tensor, batch_size: int) -> int:
    """Return how many trials to run as one: on a GPU as many as fit; on a CPU one, which is as fast."""
    if images.device.type == "cpu":
        return 1
    if images.device.type != "cuda":
        return n_trials
    free, _ = torch.cuda.mem_get_info(images.device)
    # That counts as taken what the caching allocator keeps for whoever asks next.
    free += torch.cuda.memory_reserved(images.device) - torch.cuda.memory_allocated(images.device)
    return trials_that_fit(memory_of_a_trial(network, images, batch_size), n_trials, free)
