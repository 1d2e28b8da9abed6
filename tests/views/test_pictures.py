"""Pictures: their content, not only that they exist."""

import io

import numpy as np
import pytest
import torch

import distillgrad as dg
from distillgrad.explanations.distillation import distil
from distillgrad.explanations.explanation import explain
from distillgrad.views.figures.explanation_figures import (
    colours,
    distillation_figure,
    explanation_figure,
    overlay,
    own_scales,
    relevant_pixels,
    shared_scale,
)

LONG = [f"{name}(n_steps={n})" for n in (15, 31) for name in ("integrated_gradients", "dga", "guided_ig")]
ZERO = torch.zeros(6, 6).double()


def test_a_zero_map_is_drawn_as_zero_not_as_nan_or_noise():
    scale = shared_scale([ZERO])
    assert (scale.low, scale.high) == (0, 1)
    picture = colours(ZERO, scale)
    assert np.isfinite(picture).all()
    assert (picture == picture[0, 0]).all()
    photograph = torch.full((6, 6, 3), 0.5)
    assert np.isfinite(overlay(photograph, ZERO, scale)).all()
    faded = relevant_pixels(photograph, ZERO)
    assert (faded == faded[0, 0]).all()  # no pixel is more relevant than another


def test_zero_is_white_on_a_signed_scale_and_signs_are_opposite():
    values = torch.tensor([[-2.0, 0.0], [1.0, 2.0]]).double()
    scale = shared_scale([values])
    picture = colours(values, scale)
    assert scale.signed
    assert picture[0, 1].min() > 0.95
    assert picture[0, 0].argmax() == 2  # negative: blue
    assert picture[1, 1].argmax() == 0  # positive: red


def test_one_strong_map_does_not_blank_the_others():
    weak, strong = torch.rand(9, 9).double(), torch.rand(9, 9).double() * 1000
    assert shared_scale([weak, weak, strong]).high < 1.01
    offset = shared_scale([torch.linspace(5, 6, 81).view(9, 9).double()])
    assert 5 <= offset.low < offset.high <= 6
    constant = shared_scale([torch.full((9, 9), 3.0).double()])
    assert constant.low < constant.high
    one_pixel = ZERO.clone()
    one_pixel[2, 3] = 5
    assert shared_scale([one_pixel]).high > 0


def test_side_by_side_a_colour_is_the_same_share_of_each_maps_strongest():
    ramp = torch.linspace(0, 1, 81).view(9, 9).double()
    weak, strong, offset, signed = ramp / 1000, ramp * 1000, ramp + 5, ramp - 0.5
    alike = (weak, strong, offset)
    for maps in (alike, (*alike, signed)):
        scales = own_scales(maps)
        assert {each.signed for each in scales} == {maps is not alike}
        drawn = [colours(each, scale) for each, scale in zip(maps, scales, strict=True)]
        np.testing.assert_allclose(drawn[0], drawn[1], atol=0.01)
        np.testing.assert_allclose(drawn[0], drawn[2], atol=0.05)  # of its range, which is not from zero
    assert drawn[3][0, 0].argmax() == 2  # what speaks against is blue


def test_relevant_pixels_keep_the_image_and_fade_the_rest():
    photograph, values = torch.rand(10, 10, 3), torch.arange(100.0).reshape(10, 10).double()
    faded = relevant_pixels(photograph, values, 0.1)
    np.testing.assert_allclose(faded[9], photograph[9].numpy())
    assert not np.isclose(faded[:9], photograph[:9].numpy()).all(2).any()


@pytest.fixture
def loaded():
    torch.manual_seed(0)
    return dg.load_model("cifar10-cnn", pretrained=False)


def test_an_explanation_shows_what_was_computed(loaded, photograph):
    passes = []
    made = explain(
        loaded,
        dg.read_image(photograph),
        {"two steps": ("dga", {"n_steps": 2}), "saliency": ("saliency", {})},
        target=3,
        on_pass=lambda: passes.append(1),
    )
    assert len(passes) == 3 + 1
    inputs = loaded.preprocess(dg.read_image(photograph))[None]
    expected = dg.DGA(loaded.model, n_steps=2).attribute(inputs, 3)[0]
    torch.testing.assert_close(made.attributions["two steps"], expected)
    assert made.target_name == "cat"
    assert sum(made.prediction.probabilities) <= 1
    figure = explanation_figure(made)
    assert len(figure.axes) >= 9
    assert figure.axes[0].get_images()[0].get_array().shape == (32, 32, 3)


def test_a_strip_ends_with_the_last_anchor(loaded, photograph):
    distilled = distil(loaded, dg.read_image(photograph), n_steps=5)
    assert list(distilled.sequences) == ["WC", "WC + EPC"]
    figure = distillation_figure(distilled.sequences, distilled.display, columns=3)
    drawn = [axis for axis in figure.axes if axis.get_images()]
    assert len(drawn) == 2 * 2 * 3
    last = distilled.sequences["WC"].anchors[5, 0]
    expected = loaded.displayable(last).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(drawn[2].get_images()[0].get_array(), expected, atol=1e-6)
    assert drawn[2].get_title().startswith("n = 5")
    # Eq. 8: the weak sequence starts from the empty input, its first mask having weight 0.
    assert torch.count_nonzero(distilled.sequences["WC"].anchors[1]) == 0


@pytest.mark.parametrize("labels", [["dga", "random"], LONG, ["a_method_of_a_long_name(n_steps=15)" * 2]])
def test_a_legend_has_no_more_columns_than_fit(labels):
    from distillgrad.views.figures.leaderboard_figures import legend, panels

    figure, (axis,) = panels(1, 6.4, 4.6)
    for label in labels:
        axis.plot([0, 1], [0, 1], label=label)
    legend(figure, axis, len(labels))
    figure.savefig(io.BytesIO(), format="png")
    (drawn,) = figure.legends
    box = drawn.get_window_extent()
    assert len(drawn.get_texts()) == len(labels)
    assert figure.bbox.x0 <= box.x0
    assert box.x1 <= figure.bbox.x1
    assert figure.bbox.y0 <= box.y0
