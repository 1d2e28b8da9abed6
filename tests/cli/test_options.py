"""Every option of every command: it changes what is done, or it is refused."""

import inspect
import re
from collections import defaultdict
from dataclasses import fields, is_dataclass
from importlib import import_module
from itertools import cycle
from pathlib import Path
from pkgutil import walk_packages
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

import distillgrad as dg
from distillgrad.cli import app
from distillgrad.cli.application import UNIVERSAL
from distillgrad.cli.evaluate import SETTINGS
from distillgrad.methods.parsing import parse_methods
from distillgrad.metrics.base import MetricInput, Protocol
from distillgrad.paper.registry import EXHIBITS
from distillgrad.runs.attribution.verification import Verification

GROUP = typer.main.get_command(app)
COMMANDS = GROUP.commands
OPTIONS = [
    (name, parameter.name)
    for name, command in COMMANDS.items()
    for parameter in command.params
    if parameter.name != "help"
]

REQUESTS = {
    "demo": ["demo"],
    "explain": ["explain", "cat.png"],
    "distill": ["distill", "cat.png"],
    "evaluate": ["evaluate", "photos", "--metrics", "lerf,sensitivity_n"],
    "evaluate on Ray": ["evaluate", "photos", "--engine", "ray"],
    "attribute": ["attribute", "photos"],
    "attribute on Ray": ["attribute", "photos", "--engine", "ray"],
    "verify": ["verify", "run"],
    "repair": ["repair", "run"],
    "report": ["report", "run"],
    "report of an image": ["report", "cat.png"],
    "explore": ["explore"],
    "stability": ["stability", "photos", "--methods", "saliency"],
    "roar": ["roar"],
    "roar on Ray": ["roar", "--engine", "ray"],
    "paper": ["paper", "table-1"],
    "paper's other exhibits": ["paper", "table-2", "figure-4", "figure-5"],
    "methods": ["methods"],
    "models": ["models"],
    "metrics": ["metrics"],
}

FASTER = {
    "accelerate": ["--accelerate"],
    "precision": (["--accelerate"], ["--accelerate", "--precision", "bfloat16"]),
}
SLOWER = {"accelerate": ["--no-accelerate"], "precision": ["--precision", "bfloat16"]}
RAY = {"address": ["--address", "auto"], "workers": ["--workers", "3"], "gpus": ["--gpus", "0.5"]}

EFFECTS = {
    "demo": {"out": ["--out", "other"]},
    "explain": {
        "images": ["dog.png"],
        "model": ["--model", "another"],
        "methods": ["--methods", "saliency,dga(n_steps=3)"],
        "target": ["--target", "dog"],
        "versus": ["--versus", "dog"],
        "profile": ["--profile"],
        "stability": ["--stability"],
        "value_range": ["--value-range", "10,200"],
        "out": ["--out", "other"],
        **FASTER,
    },
    "distill": {
        "image": ([], ["distill", "dog.png"]),
        "model": ["--model", "another"],
        "target": ["--target", "dog"],
        "n_steps": ["--n-steps", "12"],
        "epc_quantile": ["--epc-quantile", "0.5"],
        "columns": ["--columns", "3"],
        "value_range": ["--value-range", "10,200"],
        "out": ["--out", "other"],
        **FASTER,
    },
    "evaluate": {
        "data": ([], ["evaluate", "pictures", "--metrics", "lerf,sensitivity_n"]),
        "model": ["--model", "another"],
        "methods": ["--methods", "saliency"],
        "metrics": ["--metrics", "sparseness"],
        "limit": ["--limit", "3"],
        "value_range": ["--value-range", "10,200"],
        "only_correct": ["--only-correct"],
        "n_steps": ["--n-steps", "3"],
        "baseline": ["--baseline", "mean"],
        "element": ["--element"],
        "n_masks": ["--n-masks", "7"],
        "reference": ["--reference", "dga"],
        "batch_size": ["--batch-size", "3"],
        "out": ["--out", "other"],
        "threads": ["--threads", "3"],
        "engine": ["--engine", "ray"],
        **SLOWER,
    },
    "evaluate on Ray": RAY,
    "attribute": {
        "data": ([], ["attribute", "pictures"]),
        "model": ["--model", "another"],
        "methods": ["--methods", "saliency"],
        "target": ["--target", "label"],
        "limit": ["--limit", "3"],
        "value_range": ["--value-range", "10,200"],
        "dtype": ["--dtype", "float16"],
        "batch_size": ["--batch-size", "3"],
        "shard_size": ["--shard-size", "3"],
        "out": ["--out", "other"],
        "threads": ["--threads", "3"],
        "strict": ["--strict"],
        "dry_run": ["--dry-run"],
        "engine": ["--engine", "ray"],
        **SLOWER,
    },
    "attribute on Ray": RAY,
    "verify": {
        "run": ([], ["verify", "other"]),
        "data": ["--data", "pictures"],
        "model": ["--model", "another"],
        "imports": ["--import", "json"],
        "sample": ["--sample", "3"],
    },
    "repair": {
        "run": ([], ["repair", "other"]),
        "data": ["--data", "pictures"],
        "model": ["--model", "another"],
        "imports": ["--import", "json"],
    },
    "report": {
        "subject": ([], ["report", "cat.png"]),
        "output": ["--output", "other.html"],
        "imports": ["--import", "json"],
        "model": ["--model", "another"],
        "images": ["--images", "3"],
        "order": ["--order", "wrong"],
    },
    "report of an image": {
        "value_range": ["--value-range", "10,200"],
        "target": ["--target", "dog"],
        "methods": ["--methods", "saliency"],
        **FASTER,
    },
    "explore": {
        "run": ["run"],
        "model": ["--model", "another"],
        "imports": ["--import", "json"],
        "value_range": ["--value-range", "10,200"],
        "host": ["--host", "localhost"],
        "port": ["--port", "80"],
        "token": ["--no-token"],
        "browser": ["--no-browser"],
    },
    "stability": {
        "data": ([], ["stability", "pictures", "--methods", "saliency"]),
        "models": ["--models", "another"],
        "methods": ["--methods", "vargrad"],
        "value_range": ["--value-range", "10,200"],
        "limit": ["--limit", "3"],
        "out": ["--out", "other"],
        **FASTER,
    },
    "roar": {
        "data": ["cifar10:pictures"],
        "methods": ["--methods", "saliency"],
        "fractions": ["--fractions", "0.5"],
        "trials": ["--trials", "2"],
        "epochs": ["--epochs", "2"],
        "limit": ["--limit", "3"],
        "value_range": (["pictures"], ["roar", "pictures", *["--value-range", "10,200"]]),
        "baseline": ["--baseline", "0.5"],
        "keep": ["--keep"],
        "retrain": ["--no-retrain"],
        "precision": ["--precision", "bfloat16"],
        "out": ["--out", "other"],
        "threads": ["--threads", "3"],
        "engine": ["--engine", "ray"],
    },
    "roar on Ray": RAY,
    "paper": {
        "what": ["figure-2"],
        "model": ["--model", "another"],
        "data": ["--data", "pictures"],
        "limit": ["--limit", "3"],
        "methods": ["--methods", "dga,saliency"],
        "n_steps": ["--n-steps", "3"],
        "out": ["--out", "other"],
        "page": ["--page", "page.md"],
        **SLOWER,
    },
    "paper's other exhibits": {
        "target": ["--target", "dog"],
        "roar_data": ["--roar-data", "cifar10:pictures"],
        "roar_run": ["--roar-run", "run"],
        "n_masks": ["--n-masks", "7"],
    },
    "methods": {},
    "models": {"pattern": ["resnet18"]},
    "metrics": {},
}
"""By request, the words that change what it does, or the words before and after, by option."""

UNIVERSAL_WORDS = {"seed": ["--seed", "7"], "device": ["--device", "cpu"], "as_json": ["--json"]}

REFUSALS = {
    ("explain", "versus"): ["explain", "cat.png", "--target", "dog", "--versus", "dog"],
    ("explain", "profile"): ["explain", "cat.png", "--profile", "--json"],
    ("explain", "accelerate"): ["explain", "cat.png", "--methods", "lrp,gradcam", "--accelerate"],
    ("explain", "precision"): ["explain", "cat.png", "--precision", "bfloat16"],
    ("distill", "columns"): ["distill", "cat.png", "--n-steps", "3", "--columns", "8"],
    ("distill", "precision"): ["distill", "cat.png", "--precision", "bfloat16"],
    ("evaluate", "n_steps"): ["evaluate", "photos", "--metrics", "sensitivity_n", "--n-steps", "3"],
    ("evaluate", "element"): ["evaluate", "photos", "--metrics", "sensitivity_n", "--element"],
    ("evaluate", "baseline"): [
        "evaluate",
        "photos",
        "--metrics",
        "sparseness,infidelity",
        "--baseline",
        "mean",
    ],
    ("evaluate", "n_masks"): ["evaluate", "photos", "--n-masks", "3"],
    ("evaluate", "reference"): ["evaluate", "photos", "--methods", "saliency", "--reference", "dga"],
    ("evaluate", "address"): ["evaluate", "photos", "--address", "auto"],
    ("evaluate", "workers"): ["evaluate", "photos", "--workers", "2"],
    ("evaluate", "gpus"): ["evaluate", "photos", "--gpus", "1"],
    ("evaluate", "precision"): ["evaluate", "photos", "--no-accelerate", "--precision", "bfloat16"],
    ("attribute", "out"): ["attribute", "photos", "--dry-run", "--out", "other"],
    ("attribute", "strict"): ["attribute", "photos", "--dry-run", "--strict"],
    ("attribute", "address"): ["attribute", "photos", "--address", "auto"],
    ("attribute", "workers"): ["attribute", "photos", "--engine", "ray", "--workers", "2", "--dry-run"],
    ("attribute", "gpus"): ["attribute", "photos", "--gpus", "1"],
    ("attribute", "precision"): ["attribute", "photos", "--no-accelerate", "--precision", "float32"],
    ("verify", "data"): ["verify", "run", "--sample", "0", "--data", "pictures"],
    ("verify", "model"): ["verify", "run", "--sample", "0", "--model", "another"],
    ("verify", "imports"): ["verify", "run", "--sample", "0", "--import", "json"],
    ("report", "target"): ["report", "run", "--target", "dog"],
    ("report", "methods"): ["report", "run", "--methods", "nonsense"],
    ("report", "value_range"): ["report", "run", "--value-range", "0,4095"],
    ("report", "accelerate"): ["report", "run", "--accelerate"],
    ("report", "precision"): ["report", "cat.png", "--precision", "bfloat16"],
    ("report", "images"): ["report", "cat.png", "--images", "3"],
    ("report", "order"): ["report", "run", "--images", "0", "--order", "wrong"],
    ("stability", "accelerate"): ["stability", "photos", "--methods", "fullgrad", "--accelerate"],
    ("stability", "precision"): ["stability", "photos", "--precision", "bfloat16"],
    ("roar", "address"): ["roar", "--address", "auto"],
    ("roar", "workers"): ["roar", "--workers", "2"],
    ("roar", "gpus"): ["roar", "--gpus", "1"],
    ("roar", "value_range"): ["roar", "cifar10:pictures", "--value-range", "0,4095"],
    ("paper", "model"): ["paper", "figure-3", "figure-5", "--model", "another"],
    ("paper", "data"): ["paper", "figure-3", "--data", "pictures"],
    ("paper", "limit"): ["paper", "figure-5", "--limit", "3"],
    ("paper", "methods"): ["paper", "figure-5", "--roar-run", "run", "--methods", "dga,saliency"],
    ("paper", "target"): ["paper", "table-1", "--target", "dog"],
    ("paper", "roar_data"): ["paper", "figure-5", "--roar-run", "run", "--roar-data", "digits"],
    ("paper", "roar_run"): ["paper", "table-1", "--roar-run", "run"],
    ("paper", "n_steps"): ["paper", "table-2", "--n-steps", "3"],
    ("paper", "n_masks"): ["paper", "table-1", "ablation", "--n-masks", "3"],
    ("paper", "accelerate"): ["paper", "index", "--no-accelerate"],
    ("paper", "precision"): ["paper", "table-1", "--no-accelerate", "--precision", "bfloat16"],
    ("paper", "out"): ["paper", "list", "--out", "other"],
    ("paper", "page"): ["paper", "list", "--page", "page.md"],
}
"""By command and option, a request in which it would do nothing."""

REFUSED_BESIDES = [
    (["report", "cat.png", "--order", "wrong"], "--order"),
    (["report", "run", "--precision", "bfloat16"], "--precision"),
    (["attribute", "photos", "--engine", "ray", "--address", "auto", "--dry-run"], "--address"),
    (["explain", "cat.png", "--methods", "lrp", "--no-accelerate"], "--no-accelerate"),
    *((["paper", "list", *words], words[0]) for words in (["--model", "m"], ["--limit", "3"])),
]


def run(words):
    return CliRunner().invoke(app, words)


SUMMARY = MagicMock(n_failed=0, first_failures=(), record=dict)
MANIFEST = {
    "device": "cuda",
    "data": {"from": "photos", "n_entries": 1},
    "model": {"from": "timm:m"},
    "seed": 0,
}
NOTHING_WRONG = Verification((), 1, 1, 1, 1.0)
WHEN_REPAIRED = cycle((Verification(("torn",), 1, 0, 0, 1.0), NOTHING_WRONG))
"""The outcomes before and after."""
LOADED = MagicMock(preprocess=lambda _: torch.zeros(3, 4, 4), device=torch.device("cpu"))


def verified(*_, subject=None, **__):
    if subject is None:
        return next(WHEN_REPAIRED)
    subject()
    return NOTHING_WRONG


def made(_, setting):
    setting.load()
    return {"circumstances": {"seconds": 1.0}, "findings": ["found"]}


WORK = {
    "distillgrad.sources.models.known_models": lambda pattern: [f"timm:{pattern}"],
    "distillgrad.core.registry.import_module": None,
    **{f"distillgrad.cli.{each}.print_rows": None for each in ("explain", "evaluate", "stability", "roar")},
    "distillgrad.cli.explain._report": None,
    "distillgrad.cli.explain._report_profile": None,
    "distillgrad.explanations.explanation.explain": None,
    "distillgrad.explanations.explanation.seen_by": None,
    "distillgrad.explanations.distillation.distil": None,
    "distillgrad.explanations.stability.stability_of_methods": lambda _, __, specs, *___, **____: (
        dict.fromkeys(specs, "no")
    ),
    "distillgrad.views.records.save_explanation": None,
    "distillgrad.views.records.save_distillation": None,
    "distillgrad.sources.open_data.open_data": lambda *_, **__: [
        SimpleNamespace(image=Image.new("RGB", (4, 4)))
    ],
    "distillgrad.runs.engines.ray.RayEngine": None,
    "distillgrad.runs.evaluation.runner.run_evaluation": None,
    "distillgrad.runs.evaluation.leaderboard.leaderboard_of": None,
    "distillgrad.views.leaderboard.save_leaderboard": None,
    "distillgrad.views.leaderboard.leaderboard_record": lambda *_: {},
    "distillgrad.views.leaderboard.leaderboard_rows": lambda *_, **__: ((), ()),
    "distillgrad.runs.attribution.runner.run_attribution": lambda *_, **__: SUMMARY,
    "distillgrad.cli.attribute._estimate": None,
    "distillgrad.runs.attribution.request.read_manifest": lambda _: MANIFEST,
    "distillgrad.runs.attribution.verification.verify": verified,
    "distillgrad.runs.request.from_manifest": lambda *_: SimpleNamespace(methods={}),
    "distillgrad.explanations.distillation.distillation": None,
    "distillgrad.explanations.faithfulness.faithfulness": None,
    "distillgrad.views.opened_runs.run_view.run_view": None,
    "distillgrad.views.report.run_report": None,
    "distillgrad.views.report.image_report": None,
    "distillgrad.views.report.save_report": lambda _, path: path.touch(),
    "distillgrad.views.explorer.server.serve": None,
    "distillgrad.views.stability_record.StabilityRecord": lambda _: MagicMock(known=lambda _: {}),
    "distillgrad.views.stability_record.key_of": None,
    "distillgrad.views.stability_record.write_page": None,
    "distillgrad.sources.roar_data.subject_of": None,
    "distillgrad.runs.roar.runner.roar": None,
    "distillgrad.runs.manifest.read_json": None,
    "distillgrad.views.roar.save_roar": None,
    "distillgrad.views.roar.roar_record": lambda *_: {},
    "distillgrad.views.roar.roar_rows": lambda *_: ((), ()),
    "distillgrad.cli.paper._made": made,
    "distillgrad.paper.index.save_index": None,
    "distillgrad.paper.index.save_page": None,
}
"""What the commands call to do their work, and the answers that they need."""
for _module in ("explain", "evaluate", "attribute", "verify", "report", "stability", "roar", "paper"):
    WORK[f"distillgrad.cli.{_module}.print_json"] = None
    if _module != "roar":
        WORK[f"distillgrad.cli.{_module}.load"] = lambda *_: LOADED
    if _module not in ("roar", "verify"):
        WORK[f"distillgrad.cli.{_module}.faster"] = None
for _module in ("engines", "paper"):
    WORK[f"distillgrad.cli.{_module}.torch_device"] = lambda name: SimpleNamespace(type=name)


@pytest.fixture(scope="module")
def imported():
    """Every module, before anything is replaced: one imported meanwhile would keep the replacement."""
    for each in walk_packages(dg.__path__, "distillgrad."):
        if each.name != "distillgrad.__main__":
            import_module(each.name)


@pytest.fixture
def calls(imported, tmp_path, monkeypatch):
    """The calls of the functions that do the commands' work, none of which is done."""
    monkeypatch.chdir(tmp_path)
    for name in ("cat.png", "dog.png"):
        Image.new("RGB", (40, 40), "red").save(name)
    for name in ("photos", "pictures", "run"):
        Path(name).mkdir()
    monkeypatch.setattr("typer.testing._get_command", lambda _: GROUP)  # building it takes half of the time
    recorded = []

    def spy(path, answer):
        def called(*arguments, **keywords):
            recorded.append((path, described(arguments), described(keywords)))
            return answer(*arguments, **keywords) if answer else MagicMock()

        module, _, name = path.rpartition(".")
        monkeypatch.setattr(import_module(module), name, called)

    for path, answer in WORK.items():
        spy(path, answer)
    return recorded


def described(value):
    """The value without what differs from call to call."""
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: described(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {key: described(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [described(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    return value if isinstance(value, str | int | float | None) else type(value).__name__


def work_of(words, calls):
    """What the request does: the calls it makes and the words it prints."""
    calls.clear()
    result = run(words)
    assert result.exit_code == 0, (words, result.output, result.exception)
    return list(calls), re.sub(r"id='\d+'", "", result.stdout)


def command_of(request):
    return REQUESTS[request][0]


def test_every_option_is_universal_or_has_an_effect_here_and_a_refusal_where_it_has_conditions():
    declared = {(command_of(request), option) for request, options in EFFECTS.items() for option in options}
    universal = {(command, option) for command, option in OPTIONS if option in UNIVERSAL}
    assert declared | universal == set(OPTIONS)
    assert not declared & universal
    conditional = {(name, option) for name, command in COMMANDS.items() for option in command.conditions}
    assert conditional <= declared
    assert conditional == set(REFUSALS)


@pytest.mark.parametrize("request_name", EFFECTS)
def test_every_option_changes_what_is_done(request_name, calls):
    request = REQUESTS[request_name]
    before = work_of(request, calls)
    for option, words in EFFECTS[request_name].items():
        if isinstance(words, tuple):
            without, further = words
            unchanged = work_of([*request, *without], calls)
            changed = work_of(further if further[0] == request[0] else [*request, *further], calls)
        else:
            unchanged, changed = before, work_of([*request, *words], calls)
        assert changed != unchanged, f"{request_name}: {option} changes nothing"
    assert work_of([*request, "--debug"], calls) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_universal_options_are_accepted_and_do_what_they_say(command, calls):
    request = REQUESTS["report of an image" if command == "report" else command]
    before = work_of(request, calls)
    for option, words in UNIVERSAL_WORDS.items():
        if (command, option) in OPTIONS:
            assert work_of([*request, *words], calls) != before, f"{command}: {option} changes nothing"
    if command == "report":
        work_of([*REQUESTS["report"], "--seed", "7", "--device", "cpu"], calls)


@pytest.mark.parametrize(("command", "option"), REFUSALS)
def test_an_option_without_effect_is_refused_before_any_work(command, option, calls):
    (parameter,) = (each for each in COMMANDS[command].params if each.name == option)
    refused(REFUSALS[command, option], parameter.opts + parameter.secondary_opts, calls)


@pytest.mark.parametrize(("words", "option"), REFUSED_BESIDES)
def test_it_is_refused_for_each_of_the_reasons(words, option, calls):
    refused(words, [option], calls)


def refused(words, options, calls):
    result = run(words)
    said = " ".join(result.stderr.split())
    assert result.exit_code == 2, result.output
    assert any(f"{each} does nothing here: " in said for each in options), said
    assert "leave it out" in said
    assert len(said) < 300
    assert not calls


@pytest.mark.parametrize("method", dg.METHODS)
def test_every_method_takes_its_parameters_and_the_faster_model_or_neither(method, calls):
    accelerated = run(["explain", "cat.png", "--methods", method, "--accelerate"])
    layerwise = dg.METHODS[method].layerwise
    assert (accelerated.exit_code, "--accelerate does nothing" in accelerated.stderr) == (
        2 * layerwise,
        layerwise,
    )
    for name, parameter in inspect.signature(dg.METHODS[method]).parameters.items():
        if isinstance(parameter.default, str | int | float | None) and name != "forward_func":
            words = f"{method}({name}={parameter.default!r})"
            calls.clear()
            result = run(["explain", "cat.png", "--methods", words])
            assert result.exit_code == 0, result.stderr
            (specs,) = (each[1][2] for each in calls if each[0].endswith("explanation.explain"))
            assert specs == {words: [method, {name: parameter.default}]}
    unknown = run(["explain", "cat.png", "--methods", f"{method}(nonsense=1)"])
    assert (unknown.exit_code, "nonsense" in unknown.stderr) == (2, True)


@pytest.mark.parametrize("metric", dg.metrics.METRICS)
def test_metrics_read_the_settings_that_evaluate_says_they_read(metric):
    """The shares and strengths have no option; the seed's is universal."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(400, 3)
    )
    inputs = torch.rand(1, 3, 12, 12)
    given = MetricInput(
        model=model,
        network=model,
        inputs=inputs,
        target=torch.tensor([0]),
        attributions={"saliency": dg.Saliency(model).attribute(inputs, 0)},
        explainer={"saliency": lambda each: dg.Saliency(each).attribute},
        masks=torch.ones(1, 12, 12, dtype=torch.bool),
    )
    read = set()

    class Spy:
        def __getattr__(self, name):
            read.add(name)
            return getattr(Protocol(n_steps=2, n_masks=2, fractions=(0.5,)), name)

    dg.metrics.METRICS[metric].measurement(given, Spy())
    assert {setting for setting, metrics in SETTINGS.items() if metric in metrics} == read & set(SETTINGS)


@pytest.mark.parametrize("exhibit", EXHIBITS)
def test_an_exhibit_reads_the_settings_that_it_names(exhibit):
    """By its module's words: running them all would take minutes."""
    module = inspect.getsource(inspect.getmodule(EXHIBITS[exhibit].make))
    reads = set(re.findall(r"setting\.(target|n_masks|n_steps|roar_data|roar_run)\b", module))
    reads |= {"methods"} if "methods_of(" in module else set()
    reads |= {"n_steps"} if '"lerf"' in module else set()
    reads |= {"model", "data", "limit", "accelerate", "precision"} if "setting.images(" in module else set()
    assert set(EXHIBITS[exhibit].settings) == reads


OF_ONE_COMMAND = {
    "data": "an option of verify and paper, whose subject is another; several for stability",
    "images": "files of explain, a number for report",
    "run": "an argument of verify and explore",
    "n_steps": "DGA's for distill, the curves' elsewhere",
    "limit": "once for each model of stability",
    "model": "has the run's own as default in report, is one of several in explore",
    "target": "may be each image's label in attribute",
    "out": "may be a URL in attribute; is no run's folder in explain and stability",
}


def test_the_same_option_is_the_same_everywhere():
    forms = defaultdict(set)
    for name, command in COMMANDS.items():
        assert str(command.epilog).startswith(f"Example: distillgrad {name}")
        for parameter in command.params:
            help_text = str(getattr(parameter, "help", None) or "")
            flags = (*parameter.opts, *parameter.secondary_opts)
            if parameter.name != "help":
                assert re.match(r"(?!(Of|That|By|With|As|Which|What)\b)\S.*[.\])]$", help_text), (name, flags)
                forms[parameter.name].add((flags, help_text))
    different = {name for name, each in forms.items() if len(each) > 1}
    assert different <= set(OF_ONE_COMMAND)


def test_labels_of_methods_are_what_parses_to_them():
    specs = parse_methods("dga(n_steps=14), smoothgrad(n_samples=31)")
    assert parse_methods(",".join(specs)) == specs
