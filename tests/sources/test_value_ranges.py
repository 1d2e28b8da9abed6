"""Image files of any depth and number of bands: what is black, white, opaque or data, and who says so."""

import io
import pickle
import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import distillgrad as dg
from distillgrad.errors import InputError, ParameterError, SourceError
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.images import decode_image
from distillgrad.sources.model_inputs import model_input
from distillgrad.sources.preprocess import ResizeAndCrop
from distillgrad.sources.value_range import parse_range, written

RANDOM = np.random.default_rng(0)
TWELVE = RANDOM.integers(0, 4096, (9, 11, 4)).astype(np.uint16)
TWELVE[0, 0] = 4095
BYTES = RANDOM.integers(0, 256, (9, 11, 4)).astype(np.uint8)


def tiff(values, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def png(values):
    """A PNG of 16 bits, which Pillow writes of grey only."""
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name, content):
        whole = name + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def ppm(values, most=65535):
    kind = "P5" if values.ndim == 2 else "P6"
    return f"{kind}\n{values.shape[1]} {values.shape[0]}\n{most}\n".encode() + values.astype(">u2").tobytes()


def pixels(content, **options):
    return np.asarray(decode_image(content, "it", **options))


RGB = {"photometric": "rgb"}
COLOURS = TWELVE[..., :3]
DEEP_COLOURS = {
    "PNG": png(COLOURS),
    "PNG with opacity": png(np.dstack([COLOURS, np.full((9, 11), 65535, np.uint16)])),
    "PPM": ppm(COLOURS),
    "TIFF": tiff(COLOURS, **RGB),
    "TIFF, big-endian": tiff(COLOURS, byteorder=">", **RGB),
    "TIFF, deflated": tiff(COLOURS, compression="zlib", **RGB),
    "TIFF, bands apart": tiff(np.moveaxis(COLOURS, 2, 0), planarconfig="separate", **RGB),
    "BigTIFF": tiff(COLOURS, bigtiff=True, **RGB),
}


@pytest.mark.parametrize("form", DEEP_COLOURS)
def test_colours_of_twelve_bits_in_files_of_sixteen_keep_their_levels(form):
    with pytest.warns(UserWarning, match="its values take 12: it is shown from 0 to 4095"):
        guessed = pixels(DEEP_COLOURS[form])
    np.testing.assert_array_equal(guessed, COLOURS.astype(int) * 255 // 4095)
    said = pixels(DEEP_COLOURS[form], value_range=(1000, 3000))
    np.testing.assert_array_equal(said, (COLOURS.astype(int).clip(1000, 3000) - 1000) * 255 // 2000)


@pytest.mark.parametrize("encode", [png, ppm, lambda values: tiff(values, **RGB)])
def test_colours_of_all_sixteen_bits_are_read_as_pillow_reads_them(encode):
    content = encode(COLOURS * 16)
    np.testing.assert_array_equal(pixels(content), np.asarray(Image.open(io.BytesIO(content))))


SINGLE = TWELVE[..., 0]
GREYS = {
    "unsigned": (SINGLE, {}),
    "big-endian": (SINGLE, {"byteorder": ">"}),
    "signed": (SINGLE.astype(np.int16) - 1024, {}),
    "signed, 8 bits": (BYTES[..., 0].astype(np.int8), {}),
    "32 bits": (SINGLE.astype(np.uint32) * 100_000, {}),
    "half": (SINGLE.astype(np.float16), {}),
    "float": (SINGLE.astype(np.float32) - 1024.5, {}),
    "double": (SINGLE * 1.5, {}),
    "colours": (COLOURS.astype(np.float32), RGB),
}


@pytest.mark.parametrize("kind", GREYS)
def test_a_range_that_is_said_holds_for_every_type(kind):
    values, options = GREYS[kind]
    low, high = np.quantile(values.astype(float), [0.1, 0.9]).round().tolist()
    shares = (values.astype(float).clip(low, high) - low) / (high - low) * 255
    found = pixels(tiff(values, **options), value_range=(low, high))
    expected = np.rint(shares) if values.dtype.kind == "f" else np.floor(shares + 1e-9)
    np.testing.assert_array_equal(found, np.broadcast_to(np.atleast_3d(expected), found.shape))


def test_white_may_be_zero():
    for values, highest in ((BYTES[..., 0], 255), (SINGLE * 16, 65535)):
        expected = 255 - values.astype(int) * 255 // highest
        np.testing.assert_array_equal(pixels(tiff(values, photometric="miniswhite"))[..., 0], expected)
        half = pixels(tiff(values, photometric="miniswhite"), value_range=(0, highest // 2))[..., 0]
        clipped = values.astype(int).clip(0, highest // 2)
        np.testing.assert_array_equal(half, 255 - clipped * 255 // (highest // 2))


def test_floats_within_0_and_1_are_shares_of_white_with_a_warning():
    shares = BYTES[..., 0] / np.float32(255)
    with pytest.warns(UserWarning, match="shares of white"):
        np.testing.assert_array_equal(pixels(tiff(shares))[..., 0], BYTES[..., 0])


def test_only_the_depth_that_a_file_does_not_say_is_guessed():
    for values in (SINGLE, COLOURS):
        np.testing.assert_allclose(pixels(ppm(values, 4095)), pixels_of(values) / 4095 * 255, atol=1)


def pixels_of(values):
    return np.broadcast_to(np.atleast_3d(values.astype(float)), (*values.shape[:2], 3))


DATA_BANDS = {
    "RGB and near infrared": tiff(BYTES, extrasamples=["unspecified"], **RGB),
    "deflated": tiff(BYTES, extrasamples=["unspecified"], compression="zlib", **RGB),
    "four of no colour": tiff(BYTES, photometric="minisblack", planarconfig="contig"),
    "bands apart": tiff(
        np.moveaxis(BYTES, 2, 0), planarconfig="separate", extrasamples=["unspecified"], **RGB
    ),
    "sixteen bits": tiff(BYTES.astype(np.uint16) * 257, extrasamples=["unspecified"], **RGB),
}


def four_channels():
    mean = (0.5,) * 4
    crop = ResizeAndCrop(9, 9, mean, mean)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4 * 81, 2))
    return LoadedModel(model, crop, ("a", "b"), (4, 9, 9), mean, mean, name="four")


@pytest.mark.parametrize("form", DATA_BANDS)
def test_a_fourth_band_is_data_unless_the_file_says_that_it_is_opacity(form, tmp_path):
    (tmp_path / "a.tiff").write_bytes(DATA_BANDS[form])
    data = dg.open_data(tmp_path / "a.tiff")
    image = data[0].image
    assert image.mode == "RGBX"
    np.testing.assert_array_equal(np.asarray(image), BYTES)
    taken = model_input(four_channels(), data, 0)
    expected = (torch.from_numpy(BYTES[:, 1:10].copy()).permute(2, 0, 1) / 255 - 0.5) / 0.5
    torch.testing.assert_close(taken.inputs, expected)
    refused = model_input(dg.load_model("cifar10-cnn"), data, 0).error
    assert isinstance(refused, InputError)
    assert "4 bands of data, cifar10-cnn takes 3: write those" in str(refused)
    with pytest.raises(InputError, match="4 bands of data"):
        dg.load_model("cifar10-cnn").preprocess(image)


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha"])
def test_opacity_that_a_tiff_names_lies_over_white(kind):
    values = BYTES.copy()
    values[..., 3] = 255
    values[0] = 0
    found = pixels(tiff(values, extrasamples=[kind], **RGB))
    assert (found[0] == 255).all()
    np.testing.assert_array_equal(found[1:], BYTES[1:, :, :3])


def test_a_model_of_four_bands_is_explained_from_the_command_line(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from distillgrad.cli import app

    (tmp_path / "a.tiff").write_bytes(DATA_BANDS["RGB and near infrared"])
    module = type(dg)("of_four_bands")
    module.made = four_channels
    monkeypatch.setitem(__import__("sys").modules, "of_four_bands", module)
    monkeypatch.chdir(tmp_path)
    words = ["explain", "a.tiff", "--model", "of_four_bands:made", "--methods", "saliency"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.stderr
    assert np.load("explanations/a.saliency.npy").shape == (4, 9, 9)


def turned_float(orientation):
    return tiff(SINGLE / np.float64(4096), extratags=[(274, "H", 1, orientation, True)])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.filterwarnings("ignore:it has floating-point values")
def test_what_pillow_cannot_read_is_turned_upright_as_the_rest(orientation):
    single = tiff((SINGLE / 4096).astype(np.float32), extratags=[(274, "H", 1, orientation, True)])
    np.testing.assert_array_equal(pixels(turned_float(orientation)), pixels(single))


def test_a_second_page_is_said_to_be_left_out():
    pages = BYTES[:, :, :3].transpose(2, 0, 1)
    with pytest.warns(UserWarning, match="several pages, of which the first"):
        np.testing.assert_array_equal(pixels(tiff(pages, photometric="minisblack"))[..., 0], pages[0])
    with tifffile.TiffWriter(buffer := io.BytesIO()) as file:
        file.write(BYTES[..., 0], photometric="minisblack")
        file.write(BYTES[::2, ::2, 0], photometric="minisblack", subfiletype=1)  # a thumbnail
    assert (pixels(buffer.getvalue())[..., 0] == BYTES[..., 0]).all()


def palette():
    buffer = io.BytesIO()
    Image.fromarray(BYTES[..., :3]).quantize(4).save(buffer, "PNG")
    return buffer.getvalue()


FIVE = np.dstack([BYTES, BYTES[..., 0]])
REFUSED = {
    "five bands": (tiff(FIVE, extrasamples=["unspecified"] * 2, **RGB), None, "5 bands of 8-bit unsigned"),
    "five floats": (
        tiff(FIVE.astype(np.float32), photometric="minisblack", planarconfig="contig"),
        None,
        "5 bands of 32-bit floating-point values; images of 1, 3 or 4 bands are read: write the bands",
    ),
    "two bands": (tiff(BYTES[..., :2], photometric="minisblack", planarconfig="contig"), None, "2 bands"),
    "CIELAB": (tiff(BYTES[..., :3], photometric="cielab"), None, "CIELAB; save it as RGB"),
    "below zero": (tiff(SINGLE.astype(np.int16) - 4095), None, r"from -\d+ to 0, which have no agreed range"),
    "32 bits": (tiff(SINGLE.astype(np.uint32) * 20), None, "--value-range LOW,HIGH"),
    "physical units": (tiff(SINGLE.astype(np.float32)), None, r"value_range=\(low, high\)"),
    "NaN": (tiff(np.full((9, 9), np.nan, np.float32)), (0, 1), "NaN or infinite"),
    "beyond the type": (tiff(BYTES[..., 0]), (0, 4095), "of 8 bits, from 0 to 255, .* 0,4095 reaches beyond"),
    "palette": (palette(), (0, 100), "no intensities"),
    "depth of its own": (ppm(SINGLE, 4095), (0, 100), "says its depth itself; leave it out"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_shown_is_refused_with_the_reason(kind):
    content, wanted, words = REFUSED[kind]
    with pytest.raises(SourceError, match=words):
        decode_image(content, "it", value_range=wanted)


@pytest.mark.parametrize("words", ["4095", "0,1,2", "a,b", "3,3", "9,1", "0,inf", ""])
def test_a_range_is_two_numbers(words):
    with pytest.raises(ParameterError):
        parse_range(words)
    assert [written(parse_range(each)) for each in ("0,4095", "-1e3, .5")] == ["0,4095", "-1000,0.5"]


def layouts(folder):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    datasets = pytest.importorskip("datasets")
    content = tiff(SINGLE)
    (folder / "files").mkdir()
    (folder / "files" / "a.tiff").write_bytes(content)
    (folder / "files" / "index.csv").write_text("file,label\na.tiff,0\n")
    parquet.write_table(pyarrow.table({"image": [content]}), folder / "a.parquet")
    made = datasets.Dataset.from_dict({"image": [{"bytes": content, "path": None}]})
    made.cast_column("image", datasets.Image()).save_to_disk(str(folder / "saved"))
    return folder / "files", folder / "files" / "a.tiff", folder / "a.parquet", f"hf-dataset:{folder}/saved"


def test_the_range_is_the_same_for_every_layout_and_in_other_processes(tmp_path):
    expected = SINGLE.astype(int).clip(0, 2000) * 255 // 2000
    for place in layouts(tmp_path):
        data = dg.open_data(place, value_range=(0, 2000))
        for each in (data, data.part(range(1)), pickle.loads(pickle.dumps(data.part(range(1))))):  # noqa: S301
            assert each.value_range == (0, 2000)
            np.testing.assert_array_equal(np.asarray(each[0].image)[..., 0], expected)


def test_data_without_files_refuses_a_range(tmp_path):
    meta = pickle.dumps({b"label_names": [b"ant"]})
    rows = pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [0]})
    (tmp_path / "batches.meta").write_bytes(meta)
    (tmp_path / "test_batch").write_bytes(rows)
    with pytest.raises(ParameterError, match=r"does nothing here: .* no image files"):
        dg.open_data(tmp_path, value_range=(0, 9))


def test_a_run_keeps_its_range_and_goes_on_and_is_verified_by_it(tmp_path):
    import json

    from typer.testing import CliRunner

    from distillgrad.cli import app

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.tiff").write_bytes(tiff(SINGLE))

    def maps(out, **options):
        loaded = dg.load_model("cifar10-cnn")
        run = dg.attribute_data(
            loaded, tmp_path / "photos", "saliency", out=tmp_path / out, accelerated=False, **options
        )
        return run.attributions["saliency"][:]

    said = maps("run", value_range=(0, 500))
    with pytest.warns(UserWarning, match="take 12"):
        assert not np.array_equal(said, maps("guessed"))
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["data"]["value_range"] == [0, 500]
    with pytest.raises(ParameterError, match=r"data\.value_range"):
        maps("run", value_range=(0, 600))
    np.testing.assert_array_equal(maps("run", value_range=(0, 500)), said)
    result = CliRunner().invoke(app, ["verify", str(tmp_path / "run")])
    assert (result.exit_code, "1 of 1 maps" in result.stdout) == (0, True), result.output

    old = json.loads((tmp_path / "guessed" / "manifest.json").read_text())
    del old["data"]["value_range"]  # as runs were before there were ranges
    (tmp_path / "guessed" / "manifest.json").write_text(json.dumps(old))
    maps("guessed")
