"""The paper made anew: regions that partition the plane, cells that are the library's, every claim."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import distillgrad as dg
from distillgrad.cli import app
from distillgrad.metrics.statistics import bootstrap_mean, compare
from distillgrad.paper import figure_3, figure_4, figure_5, published
from distillgrad.paper.claims import CLAIMS
from distillgrad.paper.exhibit import Exhibit
from distillgrad.paper.figure_6 import neighbours
from distillgrad.paper.index import SavedExhibit, claims_table, exhibits_below, save_page
from distillgrad.paper.measuring import PAPERS
from distillgrad.paper.mosaics import mosaics
from distillgrad.paper.piecewise import area, linear_regions, network, patterns
from distillgrad.paper.registry import EXHIBITS
from distillgrad.paper.variants import FromFirstAnchor, WithLocal
from distillgrad.paper.verdicts import Verdict, best_of_all, pairs_in_order, worst_of_all
from distillgrad.runs.evaluation.record import read_evaluation
from distillgrad.sources.photographs import PHOTOGRAPHS, photographs
from distillgrad.sources.roar_data import subject_of


def run(*arguments):
    return CliRunner().invoke(app, ["paper", *(str(each) for each in arguments)])


def inside(points, corners):
    """Strictly within a convex polygon, whichever way round it goes."""
    edges = np.roll(corners, -1, 0) - corners
    ways = edges[:, 0] * (points[:, None, 1] - corners[:, 1]) - edges[:, 1] * (
        points[:, None, 0] - corners[:, 0]
    )
    return (ways > 0).all(1) | (ways < 0).all(1)


def test_linear_regions_partition_the_square():
    regions = linear_regions(3.0)
    assert sum(area(region.corners) for region in regions) == pytest.approx(36, abs=1e-9)
    ticks = np.linspace(-2.9871, 2.9913, 83)  # on no unit's kink
    points = np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2)
    members = np.stack([inside(points, region.corners) for region in regions])
    assert (members.sum(0) == 1).all()
    active = patterns(torch.from_numpy(points)).numpy()
    logits = network()(torch.from_numpy(points)).detach().numpy()[:, 0]
    for member, region in zip(members, regions, strict=True):
        assert (active[member] == region.pattern).all()
        affine = points[member] @ region.gradient + region.intercept
        np.testing.assert_allclose(logits[member], affine, atol=1e-12)


def test_moving_one_input_changes_ig_of_the_other_but_not_fullgrad_s():
    regions = {tuple(row) for row in patterns(figure_3.segment("B")).tolist()}
    assert len(regions) == 1
    moved = figure_3.ranges("B")
    assert moved["IG"][1] > 0.05
    assert moved["FG"][1] < 1e-12
    near = figure_3.along("A")
    torch.testing.assert_close(near["IG"], near["FG"], atol=1e-6, rtol=0)
    model, points = network(), figure_3.segment("B")
    exact = torch.stack([_exact_ig(model, point) for point in points])
    torch.testing.assert_close(figure_3.along("B")["IG"], exact, atol=2e-2, rtol=0)


def _exact_ig(model, point, n=2001):
    shares = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    path = (shares[:, None] * point).requires_grad_()
    (gradient,) = torch.autograd.grad(model(path).sum(), path)
    return gradient.mean(0) * point


def test_close_inputs_with_one_output_are_explained_differently():
    pair = torch.stack(figure_3.across_a_kink())
    outputs = network()(pair).flatten()
    assert (pair[0] - pair[1]).norm() < 1e-5
    assert abs(outputs[0] - outputs[1]).item() < 1e-12
    first, second = dg.UniformFullGrad(network()).attribute(pair, 0)
    assert (first - second).abs().max() > 0.1


def test_table_cells_and_strip_are_the_library_s(tmp_path):
    methods = "gradient_x_input,fullgrad,dga(n_steps=3),random"
    names = ("table-1", "figure-4")
    result = run(*names, "--limit", 2, "--methods", methods, "--n-steps", 4, "--out", tmp_path, "--json")
    assert result.exit_code == 0, result.stderr
    table, strip = json.loads(result.stdout)["exhibits"]
    loaded, images = dg.load_model("cifar10-cnn"), photographs(limit=2)
    inputs = torch.stack([loaded.preprocess(sample.image) for sample in images])
    target = loaded.model(inputs).argmax(1)
    maps = {"dga(n_steps=3)": dg.DGA(loaded.model, n_steps=3), "fullgrad": dg.FullGrad(loaded.model)}
    rows = {row[0]: row for row in table["tables"][0]["rows"]}
    for label, method in maps.items():
        auc = dg.metrics.pixel_perturbation(
            loaded.model, inputs, target, method.attribute(inputs, target), order="lerf", n_steps=4
        ).auc.numpy()
        mean = bootstrap_mean(auc)
        found = float(rows[label][1].split("*")[0].split()[0])
        assert found == pytest.approx(mean.mean, abs=2e-3)
    assert rows["fullgrad"][-2:] == ["0.415 / 0.448 / 0.558", "0.110 / 0.131 / 0.175"]
    assert set(read_evaluation(tmp_path / "table-1" / "run").values["lerf"]) == set(methods.split(","))
    assert {each["claim"] for each in table["verdicts"]} >= {"lerf", "morf", "others", "cheaper"}
    last = dg.DGA(loaded.model).distill(inputs[:1], target[:1])
    assert strip["numbers"]["last_scores"]["WC + EPC"] == pytest.approx(last.scores[-1, 0].item(), abs=1e-4)
    assert strip["numbers"]["last_anchor_features"]["WC + EPC"] == torch.count_nonzero(last.anchors[-1])
    index = (tmp_path / "index.html").read_text()
    assert all(each.source.split(",")[0] in index for each in CLAIMS)
    assert index.count("data:image/png;base64,") == 3
    save_page(tmp_path, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert str(tmp_path) not in page
    assert "distillgrad paper table-1 --limit 2" in page
    assert (tmp_path / "page" / "figure-4-figure.png").is_file()


def test_pictures_of_others_images_are_not_published(tmp_path, photograph, monkeypatch):
    monkeypatch.setattr(figure_4, "N_STEPS", 12)
    monkeypatch.setattr(figure_4, "LATE", 8)
    result = run("figure-4", "--data", photograph, "--target", "dog", "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    (made,) = exhibits_below(tmp_path)
    assert "distilled for dog" in made.exhibit.pictures[0].caption
    save_page(tmp_path, tmp_path / "page.md")
    assert not (tmp_path / "page").exists()
    assert "Not shown" in (tmp_path / "page.md").read_text()


def few_digits(data):
    return replace(subject_of(data, limit=200), n_epochs=2)


def test_retraining_is_compared_trial_by_trial(tmp_path, monkeypatch):
    monkeypatch.setattr(figure_5, "N_TRIALS", 2)
    monkeypatch.setattr(figure_5, "FRACTIONS", (0.5,))
    monkeypatch.setattr(figure_5, "subject_of", few_digits)
    made, kept = tmp_path / "made", tmp_path / "kept"
    result = run("figure-5", "--methods", "dga(n_steps=2),gradient_x_input", "--out", made, "--json")
    assert result.exit_code == 0, result.stderr
    (exhibit,) = json.loads(result.stdout)["exhibits"]
    accuracies = exhibit["numbers"]["explanations"]
    subject, rival, chance, plain = (
        np.mean(accuracies[name]["accuracies"])
        for name in ("dga(n_steps=2)", "gradient_x_input", "random", "none")
    )
    roar, steep = exhibit["verdicts"]
    assert f"dga(n_steps=2) {subject:.3f}" in roar["numbers"]
    assert f"{rival - subject:+.3f}" in roar["numbers"]
    assert roar["outcome"] == steep["outcome"] == "cannot be decided"  # two trials: p is at least .5
    assert f"dga(n_steps=2) {plain - subject:.3f}" in steep["numbers"]
    assert f"random {plain - chance:.3f}" in steep["numbers"]
    assert steep["why"].startswith("cannot be decided with 2 trials: p is at least 1 ")
    assert "2 comparisons; at least 7 trials would be needed" in steep["why"]
    finished = made / "figure-5" / "run"
    (made / "figure-5" / "roar.json").rename(finished / "roar.json")  # where `distillgrad roar` puts it
    result = run("figure-5", "--roar-run", finished, "--out", kept, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["exhibits"][0]["verdicts"] == exhibit["verdicts"]
    assert not (kept / "figure-5" / "run").exists()  # nothing stands in the way of a run of one's own
    assert (
        "(Figure 5, §4.3): digits, 200 train images, 2 trials of 2 epochs"
        in (kept / "index.html").read_text()
    )


def kept_run(folder, **lost):
    """A finished run of eight trials at two shares in which each explanation costs so much accuracy."""
    plain = np.linspace(0.90, 0.92, 8)
    fractions = [0.1, 0.5]
    content = {
        "request": {
            "data": {"from": "cifar10:folder"},
            "methods": {name: [name, {}] for name in lost if name != "random"},
            "training": {"n_epochs": 3},
            "keep": False,
            "retrain": True,
        },
        "explanations": {
            "none": {"fractions": [0.0], "accuracies": [plain.tolist()]},
            **{
                name: {
                    "fractions": fractions,
                    "accuracies": [(plain - drop + np.sin(np.arange(8)) / 1e4).tolist() for drop in drops],
                }
                for name, drops in lost.items()
            },
        },
    }
    folder.mkdir()
    (folder / "roar.json").write_text(json.dumps(content))
    return folder


def test_retraining_says_which_claims_hold(tmp_path):
    """The accuracies are made up, so what has to be said of them is known."""
    best = kept_run(tmp_path / "best", dga=(0.2, 0.4), fullgrad=(0.1, 0.3), random=(0.05, 0.5))
    worst = kept_run(tmp_path / "worst", dga=(0.01, 0.02), fullgrad=(0.1, 0.3), random=(0.05, 0.1))
    outcomes = {}
    for folder in (best, worst):
        result = run("figure-5", "--roar-run", folder, "--out", tmp_path / "out", "--json")
        assert result.exit_code == 0, result.stderr
        (exhibit,) = json.loads(result.stdout)["exhibits"]
        outcomes[folder.name] = [verdict["outcome"] for verdict in exhibit["verdicts"]]
        assert exhibit["subject"] == "cifar10, 8 trials of 3 epochs"
        findings = " ".join(exhibit["findings"])
        assert ("At 50% random pixels cost the most" in findings) == (folder == best)
    assert outcomes == {"best": ["holds", "holds"], "worst": ["does not hold", "does not hold"]}
    assert run("figure-5", "--roar-run", tmp_path, "--out", tmp_path / "out").exit_code == 2


def test_every_claim_has_an_exhibit():
    assert {claim.exhibit for claim in CLAIMS} <= set(EXHIBITS)
    listed = json.loads(run("list", "--json").stdout)
    assert [row["exhibit"] for row in listed] == list(EXHIBITS)
    assert run("table-3").exit_code == 2
    assert set(published.TABLE_2) == set(published.METHODS)
    assert all(name in PAPERS for name in published.METHODS)


def test_outcomes_follow_significance():
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 0.01, 40)
    values = {"dga": 0.5 + noise, "fullgrad": 0.4 + noise**2, "random": 0.1 + noise}
    better = compare(values, better="higher", reference="dga")
    assert best_of_all("lerf", better, "higher", measure="lerf").outcome == "holds"
    worse = compare(values, better="lower", reference="dga")
    assert best_of_all("morf", worse, "lower", measure="morf").outcome == "does not hold"
    assert worst_of_all("morf", worse, "lower", measure="morf").outcome == "holds"
    close = compare({**values, "fullgrad": values["dga"][::-1]}, better="higher", reference="dga")
    assert best_of_all("lerf", close, "higher", measure="lerf").outcome == "undecided"
    few = compare({name: each[:6] for name, each in values.items()}, better="higher", reference="dga")
    refused = best_of_all("lerf", few, "higher", measure="lerf")
    assert refused.outcome == "cannot be decided"  # however clear it looks: two rivals need seven images
    assert refused.why.startswith("cannot be decided with 6 images: p is at least 0.062")
    assert "at least 7 images would be needed" in refused.why
    assert worst_of_all("lerf", few, "higher", measure="lerf").outcome == "cannot be decided"
    assert pairs_in_order({"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 1.0, "b": 3.0, "c": 2.0}) == (2, 3)


def test_variants_are_the_sums_that_they_name():
    loaded = dg.load_model("cifar10-cnn")
    inputs = loaded.preprocess(photographs(limit=1)[0].image)[None]
    whole = dg.DGA(loaded.model, n_steps=4).attribute(inputs)
    local = dg.UniformFullGrad(loaded.model).attribute(inputs).clamp(min=0)
    found = FromFirstAnchor(loaded.model, n_steps=4).attribute(inputs)
    torch.testing.assert_close(found, (5 * whole - local) / 4, atol=1e-4, rtol=1e-3)
    smooth = WithLocal(loaded.model, "integrated_gradients", 2, n_steps=2)
    assert smooth.n_passes == 6
    assert smooth.attribute(inputs).min() >= 0


def test_photographs_and_neighbours():
    images = photographs()
    assert len(images) == len(set(images.ids)) == 6 * len(PHOTOGRAPHS)
    assert images[0].image.size == (300, 300)
    patch = torch.zeros(1, 10, 10)
    patch[0, :2, :5] = torch.rand(2, 5) + 1
    assert neighbours(patch).item() == pytest.approx(26 / 33)
    assert neighbours(torch.rand(20, 50, 50)).mean().item() == pytest.approx(0.1, abs=0.01)


def test_a_mosaic_holds_its_class_in_one_quarter_alone():
    target = torch.tensor([0, 0, 1, 2, 1])
    inputs = (torch.arange(5.0) + 1)[:, None, None, None].expand(5, 1, 6, 6)  # image i holds i + 1 everywhere
    made, classes, inside = mosaics(inputs, target)
    assert classes.tolist() == target.tolist()
    for row, (mosaic, where) in enumerate(zip(made, inside, strict=True)):
        assert where.sum() == 9
        assert (mosaic[0][where] == row + 1).all()
        others = {int(value) - 1 for value in mosaic[0][~where]}
        assert len(others) == 3
        assert all(target[other] != target[row] for other in others)
    assert len({int(where.flatten().int().argmax()) for where in inside}) == 4  # every quarter in turn
    assert len(mosaics(inputs[:3], target[:3])[0]) == 0


def test_exhibits_are_made_with_few_methods(tmp_path):
    names = ("table-2", "figure-2", "figure-3", "figure-6", "per-feature")
    methods = ("--methods", "dga(n_steps=2),random")
    result = run(*names, "--limit", 2, *methods, "--n-steps", 2, "--n-masks", 4, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    outcomes = {
        each.claim: each.outcome for made in exhibits_below(tmp_path) for each in made.exhibit.verdicts
    }
    for claim in ("sensitivity-n", "table-2-order", "noise-maps"):
        assert outcomes[claim] == "not testable here", claim
    for claim in ("kink", "region-a", "region-b", "paths"):
        assert outcomes[claim] == "holds", claim


SMOOTH = """
from dataclasses import replace
from torch.nn import GELU, Flatten, Linear, Sequential
import distillgrad as dg

def loaded():
    model = Sequential(Flatten(), Linear(3 * 32 * 32, 10), GELU(), Linear(10, 10))
    return replace(dg.load_model("cifar10-cnn"), model=model.eval())
"""


def test_views_of_one_photograph_decide_nothing(tmp_path):
    """Thirty views of five photographs are five samples, with which no difference can be significant."""
    asked = ("--limit", 10, "--methods", "dga(n_steps=2),fullgrad,random", "--n-steps", 2, "--json")
    result = run("table-1", *asked, "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    (exhibit,) = json.loads(result.stdout)["exhibits"]
    said = {each["claim"]: each for each in exhibit["verdicts"]}
    for claim in ("lerf", "morf", "applies"):
        assert said[claim]["outcome"] == "cannot be decided"
        # LeRF and MoRF against FullGrad, the area against random pixels: three comparisons, one correction.
        assert "with 5 photographs: p is at least 0.19 " in said[claim]["why"]
        assert "3 comparisons; at least 7 photographs would be needed" in said[claim]["why"]
    board = exhibit["numbers"]["metrics"]["lerf"]["methods"]["fullgrad"]
    assert (board["n"], board["difference"]["n"], board["difference"]["n_comparisons"]) == (5, 5, 6)
    run_ = read_evaluation(tmp_path / "table-1" / "run")
    values = run_.values["lerf"]["fullgrad"].reshape(2, 5).mean(0)  # the whole ones, then the mirrored ones
    assert board["mean"] == pytest.approx(values.mean())
    assert board["low"] == pytest.approx(bootstrap_mean(values, bounds=(0, 1)).low)
    caption = (tmp_path / "table-1" / "run" / "leaderboard.md").read_text()
    assert "views of 5 photographs" in caption
    assert "No star is possible" in caption


def test_a_method_that_is_not_defined_for_the_model_is_left_out(tmp_path, monkeypatch):
    (tmp_path / "smooth.py").write_text(SMOOTH)
    monkeypatch.syspath_prepend(tmp_path)
    asked = ("--limit", 2, "--methods", "guided_backprop,fullgrad,dga(n_steps=2)", "--n-masks", 3)
    result = run(
        "table-2", "figure-6", "--model", "smooth:loaded", *asked, "--out", tmp_path / "out", "--json"
    )
    assert result.exit_code == 0, result.stderr
    for exhibit in json.loads(result.stdout)["exhibits"]:
        assert any(each.startswith("guided_backprop is left out: ") for each in exhibit["findings"])
        shown = {row[0] for row in exhibit["tables"][0]["rows"]}
        assert shown - {"paper"} == {"fullgrad", "dga(n_steps=2)"}
    table = json.loads(result.stdout)["exhibits"][0]["tables"][0]
    assert "3 masks of 8×8 cells" in table["caption"]


def test_what_could_not_be_tested_yields_to_what_was(tmp_path):
    def lines(*outcomes):
        made = [
            SavedExhibit(Exhibit("table-1", "", "", (), (Verdict("lerf", outcome, "", "why"),)), {}, tmp_path)
            for outcome in outcomes
        ]
        words = next(each.words for each in CLAIMS if each.name == "lerf")
        rows = claims_table(made).rows
        place = next(place for place, row in enumerate(rows) if row[0] == words)
        return [row[3] for row in rows[place:] if row[0] in (words, "″")]

    assert lines() == ["not tested yet"]
    assert lines("not testable here") == ["not testable here"]
    assert lines("not testable here", "holds", "undecided") == ["holds", "undecided"]
