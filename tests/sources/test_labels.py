"""Labels of the data among a model's classes: by name, by number, by their place; the rest is said."""

import warnings

import pytest
import torch
from PIL import Image

import distillgrad as dg
from distillgrad.errors import InputError, TargetError, UnknownNameError
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.image_data import image_files
from distillgrad.sources.labels import check_labels, label_index
from distillgrad.sources.preprocess import ResizeAndCrop


def model(*classes):
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 64, len(classes)))
    return LoadedModel(network, ResizeAndCrop(8, 8), classes, (3, 8, 8), name="it")


def folders(root, *names):
    for shade, name in enumerate(names):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (9, 9), (20 * shade,) * 3).save(root / name / "a.png")
    return dg.open_data(root)


NAMELESS = ("class 0", "class 1", "class 2")
KNOWN = [
    (("cat", "dog"), ("dog", "cat"), [1, 0]),  # not by their places
    (("Tabby_cat", "grey-wolf"), ("grey wolf", "tabby cat", "fox"), [1, 0]),
    (("tench, Tinca tinca", "fox"), ("fox", "tench"), [1, 0]),
    (("2", "0"), ("a", "b", "c"), [2, 0]),
    (("1", "2"), ("1", "2"), [0, 1]),  # names, though they are numbers
    (("class_1", "class_0"), NAMELESS, [1, 0]),
    (("n02123045", "n02085620-Chihuahua"), ("Chihuahua", "tabby"), [1, 0]),
]


@pytest.mark.parametrize(("classes", "known", "expected"), KNOWN)
def test_classes_are_matched_by_name_or_number_in_silence(tmp_path, classes, known, expected):
    data = folders(tmp_path, *classes)
    check_labels(model(*known), data, needed=True)
    assert [label_index(each, model(*known), data.classes) for each in classes] == expected


UNKNOWN = [
    (("ape", "bee"), NAMELESS, UnknownNameError),  # two of three
    (("Hund", "Katze"), ("cat", "dog"), UnknownNameError),  # as many, but the model has names of its own
    (("1", "2", "3"), NAMELESS, TargetError),  # counted from 1: none of them is what it says
    (("red_fox",), ("red fox", "Red Fox"), TargetError),
]


@pytest.mark.parametrize(("classes", "known", "error"), UNKNOWN)
def test_what_no_name_or_number_matches_is_refused_where_it_is_needed_and_said_elsewhere(
    tmp_path, classes, known, error
):
    data = folders(tmp_path, *classes)
    for each in classes:
        with pytest.raises(error):
            label_index(each, model(*known), data.classes)
    with pytest.raises(InputError) as caught:
        check_labels(model(*known), data, needed=True)
    assert classes[0] in str(caught.value)
    assert known[0] in str(caught.value)
    assert "name the classes as the model does, or by its numbers from 0" in str(caught.value)
    with pytest.warns(UserWarning, match="count as unlabelled"):
        check_labels(model(*known), data, needed=False)


def test_classes_that_match_by_place_alone_are_named(tmp_path):
    data = folders(tmp_path, "ape", "bee", "cat")
    for names in (NAMELESS, ("LABEL_0", "LABEL_1", "LABEL_2")):
        with pytest.warns(UserWarning, match=f"by their place: ape is {names[0]}, bee is {names[1]}"):
            check_labels(model(*names), data, needed=True)
        assert [label_index(each, model(*names), data.classes) for each in data.labels] == [0, 1, 2]


def test_some_unknown_labels_are_said_by_name():
    labels = ("cat", "dgo", None, "cat", 7)
    data = image_files("listed", None, list("abcde"), labels=labels)
    with pytest.warns(UserWarning, match=r"2 of the 3 classes of listed \(dgo, 7; .*'dog'"):
        check_labels(model("cat", "dog"), data, needed=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_labels(model("cat", "dog"), data, needed=True)  # those images fail, each by itself
        check_labels(model("cat", "dog"), image_files("none", None, ["a"]), needed=False)


@pytest.mark.parametrize("target", ["label", "predicted"])
def test_runs_say_it(tmp_path, target):
    data, loaded = folders(tmp_path / "photos", "ape", "bee"), model("cat", "dog")
    options = {"out": tmp_path / "run", "accelerated": False, "target": target}
    if target == "label":
        with pytest.raises(InputError, match="does not know 2 of the 2 classes"):
            dg.attribute_data(loaded, data, "saliency", **options)
        with pytest.raises(InputError, match="does not know 2 of the 2 classes"):
            dg.evaluate_data(loaded, data, "saliency", "sparseness", out=tmp_path / "e", only_correct=True)
        return
    with pytest.warns(UserWarning, match="does not know 2 of the 2 classes"):
        assert dg.attribute_data(loaded, data, "saliency", **options).explained.all()
