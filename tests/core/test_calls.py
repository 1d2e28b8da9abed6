"""Models that do not take their inputs as the first argument: refused with the mend."""

import pytest
import torch
from torch import nn

import distillgrad as dg

INPUTS = torch.rand(2, 3, 8, 8)


class _Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(192, 3)

    def logits(self, images):
        return self.layer(images.flatten(1))


class ByKeyword(_Network):
    def forward(self, *, pixel_values, labels=None):
        return self.logits(pixel_values)


class TextFirst(_Network):
    def forward(self, input_ids=None, pixel_values=None):
        return self.logits(pixel_values)


class MaskFirst(_Network):
    def forward(self, region, image):
        return self.logits(region * image)


class ImageFirst(_Network):
    def forward(self, pixel_values, labels=None, **more):
        return {"loss": None, "logits": self.logits(pixel_values)}


def by_keyword(*, x):
    return x.flatten(1)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (ByKeyword(), "the forward of ByKeyword takes its inputs by keyword only"),
        (nn.DataParallel(ByKeyword()), "the forward of ByKeyword takes its inputs by keyword only"),
        (TextFirst(), "the forward of TextFirst takes 'input_ids' first"),
        (MaskFirst(), "the forward of MaskFirst cannot be called on the inputs as it is"),
        (by_keyword, "the model 'by_keyword' takes its inputs by keyword only"),
    ],
)
@pytest.mark.parametrize("name", ["saliency", "occlusion", "gradcam"])
def test_a_model_that_takes_its_inputs_otherwise_is_refused_with_the_mend(model, words, name):
    if name == "gradcam" and not isinstance(model, nn.Module):
        return
    with pytest.raises(dg.errors.ModelError, match=rf"{words}.*lambda x: model\((pixel_values|image|x)=x\)"):
        dg.create_method(name, model).attribute(INPUTS, 0)


def test_the_mend_works_and_what_takes_its_inputs_first_is_left_alone():
    model = ByKeyword()
    wrapped = dg.Saliency(lambda x: model(pixel_values=x)).attribute(INPUTS, 1)
    torch.testing.assert_close(wrapped[0].flatten(), model.layer.weight[1].detach().abs())
    first = ImageFirst()
    assert dg.Saliency(first).attribute(INPUTS, 1).shape == INPUTS.shape


def test_a_type_error_of_the_models_own_code_is_not_taken_for_a_wrong_call():
    def model(images):
        return images.flatten(1) + "a"

    with pytest.raises(TypeError):
        dg.Saliency(model).attribute(INPUTS, 0)
