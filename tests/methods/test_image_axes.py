"""The image's places, followed through whatever moves them: folded back, the maps are what they were."""

import pytest
import torch
from torch import nn

from distillgrad.core.batch import checked_batch
from distillgrad.core.optional import optional
from distillgrad.methods.axes_of_layers import RULES
from distillgrad.methods.gradcam_pass import WatchedPass
from distillgrad.methods.image_axes import folded, layout_of

LIKE_IT = torch.zeros(3, 4, 6, 8)


def windows(maps):
    return maps.view(3, 8, 2, 2, 2, 3).permute(0, 2, 4, 3, 5, 1).reshape(-1, 6, 8)


def unrolled(maps):
    tokens = maps.movedim(1, -1).view(3, 2, 2, 3, 2, 8).permute(0, 2, 4, 1, 3, 5)
    return tokens.flatten(0, 2).flatten(1, 2).view(3, 24, 8)


def among_others(maps):
    tokens = maps.flatten(2).mT
    more = torch.cat([tokens[:, :2], tokens, tokens[:, :1]], 1)
    return torch.cat([more[:, 1:2], more[:, 1:]], dim=1)[:, 1:].transpose(0, 1)


def in_heads(maps):
    heads = maps.flatten(2).unflatten(1, (2, 4)).transpose(-2, -1)
    return torch.stack([heads, heads], 2).unbind(2)[1].swapaxes(1, 2).reshape(3, 24, 8)


def halves(maps):
    first, second = maps.chunk(2, dim=1)
    return torch.cat((first, second), 1).split((3, 5), 1)[1].narrow(1, 0, 5)


def padded(maps):
    wider = nn.functional.pad(maps, (1, 2, 0, 1))
    return wider[..., :4, 1:7]


MOVES = {
    "as it was": lambda maps: maps.contiguous(memory_format=torch.channels_last),
    "channels last": lambda maps: torch.einsum("nkhw->nhwk", maps),
    "lying": lambda maps: maps.transpose(2, 3).flatten(2),
    "viewed as another": lambda maps: maps.permute(0, 2, 3, 1).reshape_as(LIKE_IT),
    "as rows": lambda maps: maps.permute(0, 2, 3, 1).reshape(-1, 8),
    "of one channel more": lambda maps: maps[:, None].squeeze(1).expand(3, 8, 4, 6),
    "windows": windows,
    "patches": lambda maps: maps.unfold(2, 2, 2).unfold(3, 3, 3),
    "patches of one place": lambda maps: nn.functional.unfold(maps, 1),
    "one at a time": lambda maps: torch.stack([maps[:, place] for place in range(8)], -1)[None].squeeze(0),
    "unrolled": unrolled,
    "in heads": in_heads,
    "rotated and added": lambda maps: maps + 0 * maps.flip(3),
    "through a product with a constant": lambda maps: torch.eye(8).double() @ maps.flatten(2),
}
ONLY_SOME = {
    "among others": (among_others, slice(None)),
    "half of the channels": (halves, slice(3, 8)),
    "padded and cropped": (padded, slice(None)),
}


class Moved(nn.Module):
    def __init__(self, move):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.move = nn.Conv2d(3, 8, 2, 2).double(), move

    def forward(self, x):
        return self.move(self.conv(x))


def watched_output(model, images):
    outputs = []
    watched = WatchedPass(model.requires_grad_(False))
    watched.score(checked_batch(images, lambda output: outputs.append(output) or output.sum().expand(3)))
    (output,) = outputs
    return output.detach(), watched.made[output.grad_fn, output.output_nr].axes


@pytest.mark.parametrize("name", [*MOVES, *ONLY_SOME])
def test_places_are_found_again(name):
    move, kept = ONLY_SOME.get(name) or (MOVES[name], slice(None))
    model = Moved(move)
    images = torch.randn(3, 3, 8, 12, generator=torch.Generator().manual_seed(1)).double()
    output, axes = watched_output(model, images)
    layout = layout_of(axes)
    assert layout.grid == (4, 6)
    assert layout.has_others == (name == "among others")
    assert torch.equal(folded(output, axes, layout), model.conv(images)[:, kept])


def test_every_function_that_has_a_rule_is_there():
    vision = optional("torchvision.ops", "vision")
    places = (torch, torch.Tensor, nn.functional, torch.linalg, torch.ops.aten, vision)
    assert not [name for name in RULES if not any(hasattr(place, name) for place in places)]


@pytest.mark.parametrize(
    "name", ["mean", "sum", "amax", "logsumexp", "prod", "std", "nanmean", "var_mean", "max", "min"]
)
def test_what_is_summed_over_is_gone_and_the_rest_is_not(name):
    def reduced(maps):
        result = getattr(torch, name)(maps, dim=1, keepdim=True)
        return result if isinstance(result, torch.Tensor) else result[0]

    images = torch.randn(3, 3, 8, 12, generator=torch.Generator().manual_seed(1)).double()
    _, axes = watched_output(Moved(reduced), images)
    assert layout_of(axes).grid == (4, 6)
    _, axes = watched_output(Moved(lambda maps: reduced(maps.movedim(2, 1))), images)
    assert layout_of(axes) is None
