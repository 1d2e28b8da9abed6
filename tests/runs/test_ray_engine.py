"""The Ray engine: the local one's bytes, also when a worker or a whole node dies in the middle."""

import json
import os
import signal
import threading
import time
from functools import partial
from types import SimpleNamespace

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("RAY_AUTH_MODE", "disabled")

import pytest
import torch
from small_runs import noise_images
from typer.testing import CliRunner

import distillgrad as dg
from distillgrad.cli import app
from distillgrad.errors import ModelError, ParameterError
from distillgrad.methods.parsing import parse_methods
from distillgrad.runs.attribution.request import AttributionRequest
from distillgrad.runs.attribution.runner import run_attribution
from distillgrad.runs.attribution.worker import ShardWorker
from distillgrad.runs.engines import ray as engine_of_ray
from distillgrad.runs.engines.engine import Worker
from distillgrad.runs.engines.local import LocalEngine
from distillgrad.runs.engines.ray import RayEngine
from distillgrad.runs.roar import runner as roar_run
from distillgrad.sources.open_data import open_data

ray = pytest.importorskip("ray")
pytestmark = [
    # Ray's own: files and processes that it leaves to the interpreter, and what it will change one day.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:.*:FutureWarning:ray"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:ray"),
]


@pytest.fixture(scope="module")
def cluster():
    from ray.cluster_utils import Cluster as Nodes

    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1)
    ray.init(address=nodes.address, log_to_driver=False)
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    names = [f"{number}.png" for number in range(40)]
    folder = noise_images(tmp_path_factory.mktemp("data") / "images", names, (40, 36))
    (folder / "17.png").write_bytes(b"no image")
    return folder


def attributed(images, out, engine, on_progress=lambda _: None):
    request = AttributionRequest(
        "cifar10-cnn", str(images), parse_methods("dga(n_steps=5)"), batch_size=2, shard_size=2, threads=1
    )
    loaded, data = dg.load_model("cifar10-cnn"), open_data(images, keep_broken=True)
    summary = run_attribution(loaded, data, request, str(out), engine, on_progress=on_progress)
    assert (summary.complete, summary.n_explained, summary.n_failed) == (True, 39, 1)
    return contents(out)


def contents(out):
    files = {each.relative_to(out): each for each in out.rglob("*") if each.is_file()}
    return {str(name): each.read_bytes() for name, each in files.items() if each.name != ".lock"}


@pytest.fixture(scope="module")
def expected(images, tmp_path_factory):
    return attributed(images, tmp_path_factory.mktemp("local") / "run", LocalEngine())


def mapped(engine, compute, units, *, cpus=1, stopped=None):
    class Computing(Worker):  # travels by value, as no worker can import this file
        def compute(self, unit):
            return compute(unit)

    with engine.workers(Computing, cpus=cpus) as workers:
        yield from workers.map(units, stopped)


def test_a_lost_worker_is_replaced(cluster, images, expected, tmp_path):
    seen = []

    def compute(unit):
        seen.append(unit)
        if unit == 3 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * unit

    found = dict(mapped(RayEngine(n_workers=2), compute, list(range(8))))
    assert found == {unit: 2 * unit for unit in range(8)}
    assert (tmp_path / "died").exists()


def test_a_unit_that_kills_every_worker_is_named(cluster):
    def compute(unit):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ModelError, match="unit 0 lost"):
        list(mapped(RayEngine(n_workers=1), compute, [0]))


def test_errors_cross_processes(cluster):
    def wrong(unit):
        raise ParameterError(f"unit {unit} is wrong")

    with pytest.raises(ParameterError, match="unit 7 is wrong"):
        list(mapped(RayEngine(n_workers=1), wrong, [7]))
    with pytest.raises(ParameterError, match="no node with 64 CPUs"):
        list(mapped(RayEngine(), wrong, [7], cpus=64))


def test_a_cluster_of_ones_own_is_never_that_of_the_environment(monkeypatch):
    settings = {}
    fake = SimpleNamespace(
        is_initialized=lambda: False, init=lambda **given: settings.update(given), shutdown=lambda: None
    )
    monkeypatch.setattr(engine_of_ray, "optional", lambda *_: fake)
    for address in (None, "ray://there:1"):
        with engine_of_ray._connected(address, 1):
            pass
        assert settings["address"] == (address or "local")


def test_workers_are_ended_with_the_error_of_one(cluster):
    def slow(unit):
        if unit == 0:
            raise ParameterError("wrong")
        time.sleep(60)

    with pytest.raises(ParameterError, match="wrong"):
        list(mapped(RayEngine(n_workers=2), slow, [1, 2, 0]))
    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU", 0) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ray.available_resources()["CPU"] == 2


def test_what_is_told_to_stop_finishes_what_is_in_hand(cluster):
    stopped, done = threading.Event(), []
    for unit, _ in mapped(RayEngine(n_workers=1), abs, list(range(20)), stopped=stopped):
        done.append(unit)
        stopped.set()
    assert 1 <= len(done) <= 3


def test_a_killed_worker_and_then_a_killed_node_leave_the_same_bytes(cluster, images, expected, tmp_path):
    """The worker that computes is killed by its process id after some shards; the node after some more."""
    pids = tmp_path / "pids"
    pids.mkdir()
    killed = []

    class Watched(ShardWorker):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            (pids / str(os.getpid())).touch()

    class Engine(RayEngine):
        def workers(self, make, **settings):
            return super().workers(partial(Watched, *make.args), **settings)

    def on_progress(progress):
        if progress.n_done >= 6 and "worker" not in killed:
            killed.append("worker")
            os.kill(int(next(pids.iterdir()).name), signal.SIGKILL)
        if progress.n_done >= 20 and "node" not in killed:
            killed.append("node")
            (node,) = cluster.worker_nodes
            cluster.remove_node(node, allow_graceful=False)

    found = attributed(images, tmp_path / "run", Engine(n_workers=2), on_progress)
    assert killed == ["worker", "node"]
    assert found == expected


def test_the_engine_itself_leaves_the_same_bytes(cluster, images, expected, tmp_path):
    assert attributed(images, tmp_path / "run", RayEngine()) == expected


def invoked(command, *words):
    result = CliRunner().invoke(app, [command, *map(str, words)])
    assert result.exit_code == 0, result.stderr
    return result


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_an_evaluation_is_the_same_on_both_engines_and_goes_on_on_the_other(
    cluster, images, one_thread, tmp_path
):
    words = (images, "--methods", "saliency,random", "--limit", 6, "--batch-size", 2)
    words += ("--n-steps", 3, "--metrics", "lerf", "--threads", 1)
    for engine in ("local", "ray"):
        invoked("evaluate", *words, "--engine", engine, "--out", tmp_path / engine)
    parts = [sorted((tmp_path / engine / "parts").iterdir()) for engine in ("local", "ray")]
    assert [each.name for each in parts[0]] == [each.name for each in parts[1]]
    for one, other in zip(*parts, strict=True):
        found = [json.loads(each.read_bytes()) for each in (one, other)]
        assert [set(each.pop("seconds")) for each in found] == [{"saliency", "random"}] * 2
        assert found[0] == found[1]
    before = parts[1][1].read_bytes()
    parts[1][1].unlink()
    invoked("evaluate", *words, "--engine", "local", "--out", tmp_path / "ray")
    assert json.loads(parts[1][1].read_bytes())["values"] == json.loads(before)["values"]


def test_roar_leaves_the_same_bytes_on_both_engines_also_when_it_goes_on(
    cluster, one_thread, tmp_path, monkeypatch
):
    monkeypatch.setattr(roar_run, "ROWS_PER_UNIT", 64)
    words = ("--limit", 120, "--methods", "saliency", "--fractions", "0.3", "--trials", 1, "--epochs", 1)
    invoked("roar", *words, "--threads", 1, "--engine", "local", "--out", tmp_path / "local")
    expected = contents(tmp_path / "local")
    for name in ("manifest.json", "ranks/saliency.train.npy", "units/saliency 0.3.json"):
        (tmp_path / "ray" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ray" / name).write_bytes(expected[name])  # all that is kept of it; the rest is made anew
    invoked("roar", *words, "--threads", 1, "--engine", "ray", "--out", tmp_path / "ray")
    assert contents(tmp_path / "ray") == expected


def test_options_of_ray_need_ray(images, tmp_path):
    for command, words in (("attribute", [images]), ("evaluate", [images]), ("roar", [])):
        out = tmp_path / command
        result = CliRunner().invoke(app, [command, *map(str, words), "--workers", "2", "--out", str(out)])
        assert (result.exit_code, "add --engine ray" in " ".join(result.stderr.split())) == (2, True)
        assert not out.exists()
