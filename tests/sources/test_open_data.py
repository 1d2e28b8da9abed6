"""Images of every form of data set, whole and broken, their labels, and CIFAR-10's ResNet-20."""

import io
import json
import os
import pickle
import sys
from pathlib import Path
from typing import get_type_hints

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

import distillgrad as dg
from distillgrad.cli.attribute import attribute
from distillgrad.cli.evaluate import evaluate
from distillgrad.errors import ParameterError, SourceError, TargetError, UnknownNameError
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.layouts import DATA_HELP, LAYOUTS, layouts_table
from distillgrad.sources.names import Names
from distillgrad.sources.open_data import label_index, open_data
from distillgrad.sources.own_data import may_run_code
from distillgrad.sources.resnet20 import resnet20_model


def encoded(shade=0):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def write(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(shade))
    return path


def shades(data):
    return [sample.image.getpixel((0, 0))[0] for sample in data]


def test_one_file(tmp_path):
    data = open_data(write(tmp_path / "cat.png", 7))
    assert (data.ids, data.labels, data.classes, shades(data)) == (("cat.png",), (None,), (), [7])
    assert data[-1].id == "cat.png"
    with pytest.raises(IndexError):
        data[1]


def test_a_flat_folder_is_in_natural_order_and_skips_what_is_no_image(tmp_path):
    for shade, name in enumerate(["a10.png", "a9.PNG", "a010.png", "b.png"]):
        write(tmp_path / name, shade)
    for name in (".hidden.png", "notes.txt", ".cache/x.png"):
        write(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    data = open_data(tmp_path)
    assert data.ids == ("a9.PNG", "a010.png", "a10.png", "b.png")
    assert shades(data) == [1, 2, 0, 3]
    assert set(data.labels) == {None}
    assert open_data(str(tmp_path), limit=2).ids == data.ids[:2]


def test_natural_order_is_by_text_then_by_value_then_by_spelling(tmp_path):
    names = ["a00", "a1", "a1b", "a01c", "a2", "a010", "a10", "a!", "a"]
    for name in (*reversed(names), f"ab{'9' * 200}", "ab"):
        write(tmp_path / f"{name}.png")
    ids = open_data(tmp_path).ids
    assert [name.removesuffix(".png") for name in ids] == [*names, f"ab{'9' * 200}", "ab"]


def test_names_are_as_a_tuple_has_them():
    words = ("a", "", "\u00e9", "\udcff.png", "b" * 300)
    names = Names(words)
    for same in (names, pickle.loads(pickle.dumps(names)), Names(names)):  # noqa: S301  # our own
        assert (len(same), tuple(same), hash(same)) == (5, words, hash(words))
        assert (same == words, words == same, same == list(words), same == words[:4]) == (1, 1, 0, 0)
    assert (names[-1], names[1:4], names[::-2]) == (words[-1], words[1:4], words[::-2])
    with pytest.raises(IndexError):
        names[5]


def test_class_folders(tmp_path):
    for name in ("wolf/2.png", "wolf/1.png", "cat/deep/er.png", "cat/a.png", "cat/b.png", "cat/c.png"):
        write(tmp_path / name)
    (tmp_path / "cat" / "deep" / "circle").symlink_to(tmp_path / "cat")
    (tmp_path / "cat" / "up").symlink_to(tmp_path)
    (tmp_path / "vacant").mkdir()
    data = open_data(tmp_path)
    assert data.ids == ("cat/a.png", "cat/b.png", "cat/c.png", "cat/deep/er.png", "wolf/1.png", "wolf/2.png")
    assert data.labels == ("cat",) * 4 + ("wolf",) * 2
    assert data.classes == ("cat", "vacant", "wolf")
    few = open_data(tmp_path, limit=3)
    assert few.ids == ("cat/a.png", "cat/b.png", "wolf/1.png")
    assert few.labels == ("cat", "cat", "wolf")


def index(folder, text):
    for name in ("a.png", "sub/b.png"):
        write(folder / name)
    (folder / "index.csv").write_text(text, encoding="utf-8-sig")
    return folder


def test_an_index_names_files_labels_and_boxes(tmp_path):
    table = "class_name,file,class_index,x0,y0,x1,y1,note\ndog,sub/b.png,5,1,2,7.5,6,x\ncat,a.png,,,,,,\n"
    for path in (index(tmp_path, table), tmp_path / "index.csv"):
        data = open_data(path)
        assert data.ids == ("sub/b.png", "a.png")
        assert data.labels == (5, None)  # the number goes before the name
        assert data[0].box == (1, 2, 7.5, 6)
        assert data[1].box is None
    assert open_data(index(tmp_path, "file,class\na.png, great cat\n")).labels == ("great cat",)
    absolute = open_data(index(tmp_path, f"file,label\n{tmp_path}/a.png,3\n"))
    assert (absolute.labels, shades(absolute)) == (("3",), [0])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,classindex\na.png,1\n", r"columns file, classindex; expected file and one of class_index"),
        ("path,label\na.png,1\n", "expected file"),
        ("file,label\nn1.png,0\nn2.png,0\nn3.png,0\nn4.png,0\na.png,1\n", "'n1.png', .*'n3.png' and 1 more"),
        ("file,label\na.png,1\na.png,2\n", "a.png in 2 rows"),
        ("file,class_index\na.png,tabby\n", r"line 2 of .*index.csv: .*'tabby'"),
        ("file,class_index\na.png,-1\n", "from 0"),
        ("file,label,x0,y0,x1,y1\na.png,1,5,0,5,9\n", "line 2.*x0 < x1"),
        ("file,label,x0,y0,x1,y1\na.png,1,5,0,,9\n", "line 2.*box"),
        ("file,label\n", "no rows"),
        ("", "no rows"),
        ("file,label\n,1\n", "not there: ''"),
    ],
)
def test_a_wrong_index(tmp_path, text, words):
    with pytest.raises(SourceError, match=words):
        open_data(index(tmp_path, text))


def test_an_index_that_is_no_text(tmp_path):
    (tmp_path / "index.csv").write_bytes(b"file,label\n\xff\xfe\xfa,1\n")
    with pytest.raises(SourceError, match="UTF-8"):
        open_data(tmp_path)


FEATURES = {"info": {"features": {"fine_label": {"names": ["ant", "bee"], "_type": "ClassLabel"}}}}


def table(path, columns, metadata=None, rows_per_group=2):
    made = pa.table(columns).replace_schema_metadata(metadata)
    parquet.write_table(made, path, row_group_size=rows_per_group)
    return path


@pytest.mark.parametrize("form", ["bytes", "struct"])
def test_parquet(tmp_path, form):
    images = [encoded(shade) for shade in range(5)]
    write(tmp_path / "beside.png", 9)
    if form == "struct":
        images = [{"bytes": each, "path": "lost.png"} for each in images]
        images[3] = {"bytes": None, "path": "beside.png"}
    columns = {"img": images, "fine_label": [1, 0, -1, None, 1], "coarse_label": [0] * 5}
    data = open_data(table(tmp_path / "test.parquet", columns, {"huggingface": json.dumps(FEATURES)}))
    assert data.ids == tuple(f"test-{row}" for row in range(5))
    assert data.labels == ("bee", "ant", None, None, "bee")
    assert data.classes == ("ant", "bee")
    assert shades(data) == [0, 1, 2, 9 if form == "struct" else 3, 4]
    assert [data[row].image.getpixel((0, 0))[0] for row in (4, 0, 2)] == [4, 0, 2]
    assert open_data(tmp_path / "test.parquet", limit=3).ids == data.ids[:3]


def test_parquet_without_names_or_labels(tmp_path):
    numbered = table(tmp_path / "a.parquet", {"image": [encoded()], "label": [3]}, {"huggingface": "{"})
    assert open_data(numbered).labels == (3,)
    assert open_data(table(tmp_path / "b.parquet", {"image": [encoded()]})).labels == (None,)


def test_wrong_parquet(tmp_path):
    path = tmp_path / "a.parquet"
    with pytest.raises(SourceError, match="columns picture, label; expected images in image or img"):
        open_data(table(path, {"picture": [b""], "label": [0]}))
    with pytest.raises(SourceError, match="label 2 in row 1, but names 2 classes"):
        open_data(table(path, {"image": [b"", b""], "label": [0, 2]}, {"classes": "ant,bee"}))
    with pytest.raises(SourceError, match=r"float as label of row 0"):
        open_data(table(path, {"image": [b""], "label": [0.5]}))
    with pytest.raises(SourceError, match="no rows"):
        open_data(table(path, {"image": pa.array([], pa.binary())}))
    path.write_bytes(b"no parquet")
    with pytest.raises(SourceError, match="as Parquet"):
        open_data(path)
    broken = open_data(table(path, {"image": [b"no image", None, encoded()]}))
    for row, words in enumerate([r"image a-0: row 0 of .*a\.parquet is not an image", "row 1 .* None"]):
        with pytest.raises(SourceError, match=words):
            broken[row]
    assert broken[2].image.size == (8, 6)


def test_an_iterator_goes_on_after_a_broken_image(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        write(tmp_path / name)
    (tmp_path / "b.png").write_bytes(b"no image")
    samples = iter(open_data(tmp_path))
    assert next(samples).id == "a.png"
    with pytest.raises(SourceError, match=r"image b\.png: .*b\.png is not an image"):
        next(samples)
    assert next(samples).id == "c.png"


def test_nothing_to_read(tmp_path):
    with pytest.raises(SourceError, match="no such file or folder"):
        open_data(tmp_path / "none")
    with pytest.raises(SourceError, match="which is empty"):
        open_data(tmp_path)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "sub").mkdir()
    with pytest.raises(SourceError, match=r"no images \(JPEG.*which holds notes.txt, sub"):
        open_data(tmp_path)
    write(tmp_path / "sub" / "a.png")
    write(tmp_path / "b.png")
    with pytest.raises(SourceError, match=r"images \(b.png\) beside folders of them \(sub\)"):
        open_data(tmp_path)
    with pytest.raises(ParameterError, match="limit"):
        open_data(tmp_path, limit=0)


def model(*classes):
    return LoadedModel(torch.nn.Identity(), lambda image: torch.zeros(3, 2, 2), classes, (3, 2, 2), name="it")


def test_labels_are_the_models_classes():
    animals = model("great cat", "Dog", "crane", "crane")
    assert [label_index(each, animals) for each in (3, "0", "dog", "great_cat", "Dog, hound")] == [
        3,
        0,
        1,
        0,
        1,
    ]
    # The data's order decides between two of one name, and only where it has as many classes.
    assert label_index("crane, bird", animals, ("great cat", "dog", "crane, machine", "crane, bird")) == 3
    with pytest.raises(TargetError, match="several"):
        label_index("crane", animals, ("crane",))
    with pytest.raises(UnknownNameError, match="'Dog'"):
        label_index("doge", animals, ("a", "b", "c", "doge"))
    for number in (4, -1, "4"):
        with pytest.raises(TargetError, match="4 classes of it"):
            label_index(number, animals)
    unnamed = model("class 0", "class 1")
    assert label_index("zebra", unnamed, ("ape", "zebra")) == 1
    with pytest.raises(UnknownNameError):
        label_index("zebra", unnamed, ("zebra",))


def test_wordnet_ids_are_imagenets_classes():
    ids = [f"n{number:08d}" for number in range(1000)]
    imagenet = model("tench", *map(str, range(999)))
    assert label_index("n00000700", imagenet, ids) == 700
    assert label_index("n02123045", imagenet, ["n02123045"]) == 281  # tabby, of a part of ImageNet
    for other in (imagenet, model("tench", "dog")):
        with pytest.raises(UnknownNameError, match="n99999999"):
            label_index("n99999999", other, ["n99999999", "n02123045"])


def test_imagenet_samples(data):
    samples = open_data(data / "imagenet" / "samples", limit=3)
    assert (samples.ids[0], samples.labels) == ("n01440764.jpg", (0, 2, 11))
    assert samples[0].image.size == (341, 256)
    assert len(open_data(data / "imagenet" / "samples")) == 200


def test_resnet20_classifies_cifar10(data):
    loaded = resnet20_model(str(data / "cifar10" / "resnet20.safetensors"), pretrained=True)
    assert sum(each.numel() for each in loaded.model.parameters()) == 269_722
    test = open_data(data / "cifar10" / "test.parquet", limit=500)
    assert test.classes == loaded.classes
    with torch.no_grad():
        logits = loaded.model(torch.stack([loaded.preprocess(sample.image) for sample in test]))
    labels = np.array([label_index(label, loaded, test.classes) for label in test.labels])
    assert (logits.argmax(1).numpy() == labels).mean() >= 0.9


def test_resnet20_without_its_weights(tmp_path):
    loaded = resnet20_model("", pretrained=False)
    assert not loaded.model.training
    inputs = torch.randn(2, *loaded.input_size)
    assert dg.DGA(loaded.model, n_steps=2).attribute(inputs).shape == inputs.shape
    with pytest.raises(ParameterError, match="cifar10-resnet20@WEIGHTS"):
        resnet20_model("", pretrained=True)
    with pytest.raises(SourceError, match="no weights"):
        resnet20_model(str(tmp_path / "none.safetensors"), pretrained=True)
    torch.save(dict(list(loaded.model.state_dict().items())[1:]), tmp_path / "part.pt")
    with pytest.raises(SourceError, match=r"does not fit ResNet20: .*conv1\.weight"):
        resnet20_model(str(tmp_path / "part.pt"), pretrained=True)


def cifar_folder(folder, batch=None):
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (4, 3072), np.uint8)
    content = {b"data": pixels, b"labels": [0, 1, 1, 0], b"filenames": [b"x.png"] * 4}
    (folder / "test_batch").write_bytes(pickle.dumps(content, protocol=2) if batch is None else batch)
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"ant", b"bee"]}))
    return pixels


def test_cifar10_in_its_three_layouts(tmp_path):
    pixels = cifar_folder(tmp_path / "pickles")
    for spec in (
        tmp_path / "pickles",
        f"cifar10:{tmp_path / 'pickles'}",
        f"cifar10:{tmp_path / 'pickles'}:test",
    ):
        data = open_data(spec)
        assert (data.ids[1], data.labels, data.classes) == (
            "test-1",
            ("ant", "bee", "bee", "ant"),
            ("ant", "bee"),
        )
        assert np.asarray(data[2].image)[3, 5].tolist() == pixels[2].reshape(3, 32, 32)[:, 3, 5].tolist()
        assert data.part(range(2, 4))[0].image.tobytes() == data[2].image.tobytes()
    assert len(open_data(tmp_path / "pickles", limit=3)) == 3
    table(tmp_path / "test.parquet", {"image": [encoded(3)], "label": [0]}, {"classes": "ant,bee"})
    assert open_data(f"cifar10:{tmp_path}").labels == ("ant",)
    write(tmp_path / "train" / "ant" / "1.png")
    assert open_data(f"cifar10:{tmp_path}:train").ids == ("ant/1.png",)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    cifar_folder(tmp_path / "pickles", pickle.dumps({b"data": Hostile(tmp_path / "gone")}))
    with pytest.raises(SourceError, match="it asks for"):
        open_data(tmp_path / "pickles")
    assert not (tmp_path / "gone").exists()


def pickled_by_python_2(pixels):
    shape = b"K" + bytes([pixels.shape[0]]) + b"M" + pixels.shape[1].to_bytes(2, "little") + b"\x86"
    dtype = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    raw = b"T" + pixels.size.to_bytes(4, "little") + pixels.tobytes()
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
    array += b"(K\x01" + shape + dtype + b"\x89" + raw + b"tb"
    return b"\x80\x02}(U\x04data" + array + b"U\x06labels](K\x00K\x01K\x01K\x00eu."


@pytest.mark.parametrize("form", [2, 3, 4, "Python 2"])
def test_arrays_of_every_protocol(tmp_path, form):
    pixels = np.random.default_rng(1).integers(0, 255, (4, 3072), np.uint8)
    turned = np.asfortranarray(pixels)
    content = (
        pickled_by_python_2(pixels)
        if form == "Python 2"
        else pickle.dumps({b"data": turned, b"labels": [0, 1, 1, 0]}, protocol=form)
    )
    cifar_folder(tmp_path / "pickles", content)
    data = open_data(tmp_path / "pickles")
    assert data.labels == ("ant", "bee", "bee", "ant")
    found = np.stack([np.asarray(each.image).transpose(2, 0, 1).ravel() for each in data])
    assert np.array_equal(found, pixels)


class Made:
    """Pickles as the call that it was given."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "array",
    [
        Made(np.ndarray, ((1,), "O", b"A" * 8)),
        Made(np.ndarray, ((0,), "u1"), (1, (1,), np.dtype("O"), False, b"A" * 8)),
        Made(np.ndarray, ((0,), "u1"), (1, (1,), np.dtype("u1"), False, [1])),
        Made(np.dtype, ("u1",)),
        np.zeros((4, 3072), "int64"),
        b"bytes",
    ],
)
def test_a_pickle_of_anything_but_an_array_of_bytes_is_refused(tmp_path, array):
    cifar_folder(tmp_path / "pickles", pickle.dumps({b"data": array, b"labels": [0]}, protocol=4))
    with pytest.raises(SourceError, match="is not CIFAR-10's Python version"):
        open_data(tmp_path / "pickles")


def test_imagenets_val_folder(tmp_path):
    for name in ("val/b.png", "val/a.png"):
        write(tmp_path / name)
    (tmp_path / "val.txt").write_text("a.png 65\nb.png 970\n")
    assert open_data(tmp_path / "val").labels == (65, 970)
    numbers = tmp_path / "val" / "ILSVRC2012_validation_ground_truth.txt"
    numbers.write_text("490\n361\n")
    assert open_data(tmp_path / "val").labels == (65, 970)
    numbers.unlink()
    (tmp_path / "val" / "val.txt").write_text("notes on another thing\nc.png 3\n")
    assert open_data(tmp_path / "val").labels == (65, 970)
    (tmp_path / "val.txt").unlink()
    assert open_data(tmp_path / "val").labels == (None, None)
    for content, words in (
        (b"490\n361\n", "development kit"),
        (b"a.png 1\n", r"no line for b\.png"),
        (b"\xff\xfea.png", "no text in UTF-8"),
    ):
        (tmp_path / "val.txt").write_bytes(content)
        with pytest.raises(SourceError, match=words):
            open_data(tmp_path / "val")


def saved(folder, rows, *, names=("ant", "bee"), splits=("train", "test")):
    """A data set that Hugging Face's library itself saves; it copies the files of images into it."""
    whole = dataset_of(rows, names)
    datasets.DatasetDict(dict.fromkeys(splits, whole)).save_to_disk(folder)
    return f"hf-dataset:{folder}"


def dataset_of(rows, names):
    label = datasets.ClassLabel(names=list(names)) if names else datasets.Value("int64")
    features = datasets.Features({"image": datasets.Image(), "label": label})
    columns = {name: [row[name] for row in rows] for name in features}
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.mark.parametrize("names", [("ant", "bee"), None])
def test_hugging_face_saved(tmp_path, offline, names):
    write(tmp_path / "a.png", 7)
    rows = [
        {"image": {"bytes": None, "path": str(tmp_path / "a.png")}, "label": 1},
        {"image": {"bytes": encoded(5), "path": None}, "label": -1},
        {"image": None, "label": 0},
        {"image": {"bytes": b"no image", "path": None}, "label": 0},
    ]
    spec = saved(tmp_path / "saved", rows, names=names)
    (tmp_path / "a.png").unlink()
    data = open_data(spec)
    assert data.ids == tuple(f"row-{row}" for row in range(4))
    assert data.labels == (("bee", None, "ant", "ant") if names else (1, None, 0, 0))
    assert data.classes == (names or ())
    assert [data[row].image.getpixel((0, 0))[0] for row in (1, 0)] == [5, 7]
    for row, words in ((2, "holds no image"), (3, "is not an image")):
        with pytest.raises(SourceError, match=words):
            data[row]
    part = pickle.loads(pickle.dumps(data.part(range(1, 3))))  # noqa: S301  # our own
    assert (part.ids, shades(part.part(range(1)))) == (("row-1", "row-2"), [5])
    assert open_data(f"{spec}:train", limit=2).ids == ("train-0", "train-1")
    with pytest.raises(SourceError, match="has the splits train, test, not 'val'"):
        open_data(f"{spec}:val")


def test_hugging_face_images_that_are_files(tmp_path, monkeypatch):
    write(tmp_path / "a.png", 7)
    rows = [
        {"image": {"bytes": None, "path": str(tmp_path / name)}, "label": 0} for name in ("a.png", "b.png")
    ]
    monkeypatch.setattr(datasets, "load_dataset", lambda _: dataset_of(rows, ("ant",)))
    data = open_data("hf-dataset:some/where")
    assert data[0].image.getpixel((0, 0))[0] == 7
    with pytest.raises(SourceError, match="no such image"):
        data[1]


def test_hugging_face_without_images_or_out_of_reach(tmp_path, offline):
    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "words")
    with pytest.raises(SourceError, match="has the columns text; expected images in image or img"):
        open_data(f"hf-dataset:{tmp_path / 'words'}")
    with pytest.raises(SourceError, match="cannot load the data set nobody/nothing"):
        open_data("hf-dataset:nobody/nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="cannot load the data set"):
        open_data(f"hf-dataset:{tmp_path / 'empty'}")


def test_broken_entries_are_kept_where_that_is_asked_for(tmp_path):
    text = "file,class_index\na.png,1\nno.png,2\na.png,3\nsub/b.png,cat\n"
    data = open_data(index(tmp_path, text), keep_broken=True)
    assert data.ids == ("a.png", "no.png", "a.png (line 4)", "sub/b.png")
    assert data[0].label == 1
    for place, words in ((1, "no such image"), (2, "again, after line 2"), (3, "'cat'")):
        with pytest.raises(SourceError, match=words):
            data[place]
        with pytest.raises(SourceError, match=words):
            data.part(range(place, place + 1))[0]


def test_no_two_names_become_one_id(tmp_path):
    for name in (b"\xff.png", b"\\xff.png", b"\\\\xff.png", b"a\\b.png"):
        Image.new("RGB", (2, 2)).save(io.BytesIO(), "PNG")
        with open(os.fsencode(tmp_path) + b"/" + name, "wb") as file:
            Image.new("RGB", (2, 2)).save(file, "PNG")
    ids = open_data(tmp_path).ids
    assert len(set(ids)) == 4
    assert "a\\b.png" in ids


def test_help_and_documentation_are_made_from_the_table_of_layouts():
    page = Path(__file__).resolve().parents[2] / "docs" / "recipes" / "own-data.md"
    assert layouts_table() in page.read_text(encoding="utf-8"), "take over layouts_table() there"
    for command in (evaluate, attribute):
        (words,) = get_type_hints(command, include_extras=True)["data"].__metadata__
        assert words.help == DATA_HELP
    for each in LAYOUTS:
        assert callable(each.code.recognises)
        assert callable(each.code.open_at)


def test_data_of_ones_own(tmp_path, monkeypatch):
    write(tmp_path / "images" / "a.png", 1)
    write(tmp_path / "images" / "b.png", 2)
    (tmp_path / "own_images.py").write_text(
        "from distillgrad import open_data\n\n\n"
        "def mine():\n    return open_data('images')\n\n\n"
        "def nothing():\n    return 3\n\n\ndef two(one, other):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert may_run_code("own_images:mine")
    data = open_data("own_images:mine", limit=1)
    assert (data.name, data.ids, shades(data)) == ("own_images:mine", ("a.png",), [1])
    assert not may_run_code("own_images:mine")
    assert len(open_data("own_images:mine", limit=5)) == 2
    for name, error, words in (
        ("nothing", SourceError, "returned a int; expected distillgrad's ImageData"),
        ("two", ParameterError, "no function without arguments"),
        ("none", SourceError, "cannot import none"),
    ):
        with pytest.raises(error, match=words):
            open_data(f"own_images:{name}")
    del sys.modules["own_images"]
