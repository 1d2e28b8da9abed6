"""Requests in manifests: written and read by their fields, also those that older versions wrote."""

import json
from dataclasses import dataclass, replace

import pytest
import torch

import distillgrad as dg
from distillgrad.methods.parsing import parse_methods
from distillgrad.metrics.base import Protocol
from distillgrad.runs.attribution.job import job_of
from distillgrad.runs.attribution.request import AttributionRequest
from distillgrad.runs.evaluation.record import EvaluationRequest
from distillgrad.runs.kinds import open_manifest
from distillgrad.runs.manifest import begun
from distillgrad.runs.request import from_manifest, to_manifest, with_defaults
from distillgrad.runs.roar.worker import RoarRequest

METHODS = parse_methods("dga(n_steps=2),gradient_x_input")

OLD_ATTRIBUTIONS = """{
 "kind": "attributions", "format": 1,
 "model": {"from": "cifar10-cnn", "weights": "473c", "classes": ["cat", "dog"], "input_size": [3, 32, 32]},
 "data": {"from": "photos", "n_entries": 7, "fingerprint": "ae01"},
 "methods": {
  "dga(n_steps=2)": {"name": "dga", "parameters": {"n_steps": 2}, "shape": [3, 32, 32]},
  "gradient_x_input": {"name": "gradient_x_input", "parameters": {}, "shape": [3, 32, 32]}},
 "target": "predicted", "dtype": "float32", "batch_size": 2, "shard_size": 4, "threads": 1, "seed": 0,
 "accelerated": true, "device": "cpu",
 "versions": {"distillgrad": "0.0.1", "torch": "2.5"}, "written_with": {"python": "3.11"}
}"""
OLD_EVALUATION = """{
 "format": 1, "model": "cifar10-cnn", "weights": "473c",
 "data": {"from": "photos", "n_samples": 6, "ids": "f142"},
 "methods": {"dga(n_steps=2)": ["dga", {"n_steps": 2}], "gradient_x_input": ["gradient_x_input", {}]},
 "metrics": ["lerf", "morf"],
 "protocol": {"n_steps": 4, "baseline": [0.5, 0.25], "element": false, "fractions": [0.1, 0.9],
  "n_masks": 100, "sigmas": [0.05], "seed": 0},
 "only_correct": false, "batch_size": 2, "accelerated": true
}"""
OLD_ROAR = """{
 "format": 1, "data": {"from": "digits", "images": "0e08"},
 "methods": {"dga(n_steps=2)": ["dga", {"n_steps": 2}], "gradient_x_input": ["gradient_x_input", {}]},
 "fractions": [0.5], "n_trials": 1, "seed": 0,
 "training": {"n_epochs": 1, "learning_rate": 0.005, "batch_size": 64, "bfloat16": false},
 "replacement": "mean", "keep": false, "retrain": true
}"""


def test_manifests_of_attributions_from_before_are_read():
    manifest = json.loads(OLD_ATTRIBUTIONS)
    request = from_manifest(AttributionRequest, manifest)
    assert request == AttributionRequest(
        "cifar10-cnn", "photos", METHODS, batch_size=2, shard_size=4, threads=1, precision="float32"
    )
    job = job_of(manifest, "run", strict=True)
    assert (job.request, job.batch_size, job.threads, job.weights) == (request, 2, 1, "473c")
    assert (job.layout.n_shards, job.layout.shapes["gradient_x_input"]) == (2, (3, 32, 32))


def test_manifests_of_evaluations_from_before_are_read():
    request = from_manifest(EvaluationRequest, json.loads(OLD_EVALUATION))
    assert isinstance(request.protocol, Protocol)
    torch.testing.assert_close(request.protocol.baseline, torch.tensor([0.5, 0.25]))
    assert request.protocol.fractions == (0.1, 0.9)
    plain = replace(request, protocol=Protocol())
    assert plain == EvaluationRequest(
        "cifar10-cnn", "photos", METHODS, ("lerf", "morf"), batch_size=2, accelerated=True
    )


def test_manifests_of_roar_from_before_are_read():
    assert from_manifest(RoarRequest, json.loads(OLD_ROAR)) == RoarRequest(
        "digits", METHODS, (0.5,), n_trials=1, n_epochs=1, learning_rate=0.005
    )


@pytest.mark.parametrize(
    ("kind", "text"),
    [(AttributionRequest, OLD_ATTRIBUTIONS), (EvaluationRequest, OLD_EVALUATION), (RoarRequest, OLD_ROAR)],
)
def test_what_was_read_is_written_under_the_same_keys(kind, text):
    def leaves(tree, inside=()):
        for key, value in tree.items():
            if isinstance(value, dict) and value:
                yield from leaves(value, (*inside, key))
            else:
                yield (*inside, key), value

    old = dict(leaves(json.loads(text)))
    again = dict(leaves(json.loads(json.dumps(to_manifest(from_manifest(kind, json.loads(text)))))))
    assert {key: again[key] for key in again if key in old} == {key: old[key] for key in again if key in old}
    later = {("precision",), ("data", "value_range")}  # which could not be chosen then
    assert set(again) - set(old) <= later
    assert again.get(("data", "value_range")) is None
    assert again.get(("precision",), "float32") == "float32"


def test_a_new_option_is_one_field_and_runs_from_before_have_its_default(tmp_path):
    @dataclass(frozen=True)
    class Extended(RoarRequest):
        augment: bool = False

    old = json.loads(OLD_ROAR)
    (tmp_path / "manifest.json").write_text(OLD_ROAR)
    request = from_manifest(RoarRequest, old)
    extended = Extended(**vars(request))
    facts = {"format": 1, "data": old["data"]}
    with begun(tmp_path, {**to_manifest(extended), **facts}, Extended):
        pass  # goes on
    another = {**to_manifest(replace(extended, augment=True)), **facts}
    with (
        pytest.raises(dg.errors.ParameterError, match="its augment differs"),
        begun(tmp_path, another, Extended),
    ):
        pass
    assert with_defaults(Extended, old)["augment"] is False


def test_a_manifest_without_its_model_is_refused():
    manifest = json.loads(OLD_ATTRIBUTIONS)
    del manifest["model"]["from"]
    with pytest.raises(dg.errors.SourceError, match=r"lacks model\.from"):
        from_manifest(AttributionRequest, manifest)


@pytest.mark.parametrize(
    ("text", "kind"),
    [(OLD_ATTRIBUTIONS, "attributions"), (OLD_EVALUATION, "evaluation"), (OLD_ROAR, "roar")],
)
def test_a_folder_says_which_kind_of_run_it_holds(tmp_path, text, kind):
    (tmp_path / "manifest.json").write_text(text)
    opened = open_manifest(tmp_path)
    assert (opened.kind, opened.manifest) == (kind, json.loads(text))
    with pytest.raises(dg.errors.SourceError, match="no such folder"):
        open_manifest(tmp_path / "nowhere")
