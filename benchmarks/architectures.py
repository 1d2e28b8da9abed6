"""Every method on every family of timm, torchvision and transformers: ``python benchmarks/architectures.py``.

Each network has a process of its own, with bounds of memory and time, and each verdict is a line of a file,
so that a crash ends nothing and the command, given again, goes on where it was. ``make sweep`` also writes
``docs/results/architectures.md``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import multiprocessing
import os
import re
import resource
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from multiprocessing import connection
from pathlib import Path

import torch

import distillgrad as dg
from architecture_checks import RAW, WRONG, Subject, Verdict, judged, used_once
from architecture_zoo import Network, families_left_out, networks
from architectures_page import BUILD, PAGE, Row, write_page
from distillgrad.core.optional import optional
from distillgrad.methods import xrai

RESULTS = Path("benchmarks/results/architectures.jsonl")
METHODS = (*dg.METHODS, "accelerate")
MEMORY = 8 << 30
SECONDS = 600
"""For one network, all methods; whatever is under way then is a raw error."""

IMPORTED_ONCE = (
    ("sklearn.linear_model", "regions"),
    ("skimage.segmentation", "regions"),
    ("skimage.transform", "regions"),
    ("zennit.composites", "lrp"),
)
"""What methods import when they are used, and forked processes share: seconds for each network."""

Key = tuple[str, str]


def main() -> None:
    """Sweep, or go on with it, and print or write what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="pattern of 'library:family:name'")
    parser.add_argument("--methods", help="some of the methods, or accelerate, with commas")
    parser.add_argument("--limit", type=int, help="so many networks that are not done yet")
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file that is gone on with")
    parser.add_argument("--page", nargs="?", const=PAGE, type=Path, help="write the page from the file")
    arguments = parser.parse_args()
    methods = tuple(arguments.methods.split(",")) if arguments.methods else METHODS
    unknown = set(methods) - set(METHODS)
    if unknown:
        parser.error(f"no method: {', '.join(sorted(unknown))}")
    if left_out := families_left_out():
        parser.error(f"give architecture_zoo a network of each of: {', '.join(left_out)}")
    chosen = [each for each in networks() if re.search(arguments.only, str(each))]
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    waiting = [each for each in chosen if _missing(each, methods, arguments.results)][: arguments.limit]
    torch.set_num_threads(1)
    for module, extra in IMPORTED_ONCE:
        optional(module, extra)
    for words in _swept(waiting, methods, arguments.results, arguments.jobs):
        print(words, flush=True)
    if arguments.page:
        write_page(read(arguments.results), arguments.page)


def read(results: Path) -> list[Row]:
    """Return the verdicts that hold for the installed libraries; a later one replaces an earlier."""
    if not results.exists():
        return []
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    versions = _versions()
    kept: dict[Key, Row] = {_key(row): row for row in rows if row["version"] == versions[row["library"]]}
    return list(kept.values())


def _key(row: Row) -> Key:
    return f"{row['library']}:{row['family']}:{row['name']}", row["method"]


def _versions() -> dict[str, str]:
    version = importlib.metadata.version
    return {
        each: f"{version(each)}, torch {torch.__version__}"
        for each in ("timm", "torchvision", "transformers")
    }


def _missing(network: Network, methods: tuple[str, ...], results: Path) -> list[str]:
    found = {_key(row) for row in read(results)}
    if (str(network), BUILD) in found:
        return []
    return [each for each in methods if (str(network), each) not in found]


def _swept(waiting: list[Network], methods: tuple[str, ...], results: Path, jobs: int) -> Iterator[str]:
    """Judge what is missing of networks, several at a time; yield how each went, in words."""
    queue, running = list(reversed(waiting)), list[_Running]()
    while queue or running:
        while queue and len(running) < jobs:
            running.append(_Running(queue.pop(), methods, results))
        connection.wait([each.process.sentinel for each in running], timeout=1)
        for each in list(running):
            if each.settled():
                running.remove(each)
                yield _words(each.network, results)


class _Running:
    """A network that is being judged, in one process after the other until nothing is missing."""

    def __init__(self, network: Network, methods: tuple[str, ...], results: Path) -> None:
        self.network, self.methods, self.results = network, methods, results
        self.until = time.monotonic() + SECONDS
        self._start()

    def _start(self) -> None:
        missing = _missing(self.network, self.methods, self.results)
        context = multiprocessing.get_context("fork")  # which shares the libraries that were imported once
        self.process = context.Process(target=_judge_all, args=(self.network, missing, self.results))
        self.process.start()

    def settled(self) -> bool:
        """Return whether the network is done with, having put down whatever ended its process."""
        late = time.monotonic() > self.until
        if self.process.is_alive() and not late:
            return False
        self.process.kill()
        self.process.join()
        missing = _missing(self.network, self.methods, self.results)
        if not missing:
            return True
        why = f"took more than {SECONDS} s" if late else f"the process ended with {self.process.exitcode}"
        _append(self.results, self.network, missing[0], Verdict(RAW, why, 0))
        if late or not missing[1:]:
            return True
        self._start()
        return False


def _words(network: Network, results: Path) -> str:
    rows = [row for row in read(results) if _key(row)[0] == str(network)]
    bad = [f"\n    {row['method']}: {row['outcome']}" for row in rows if row["outcome"] in (WRONG, RAW)]
    return f"{network}: {len(rows)} in {sum(row['seconds'] for row in rows):.0f} s{''.join(bad)}"


def _judge_all(network: Network, methods: list[str], results: Path) -> None:
    """Write the verdict of each method, in a process that was made for it."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    xrai.SCALES = (500,)  # type: ignore[assignment]  # one of six segmentations, each of which takes a tenth of a second
    try:
        subject = Subject(network.build(), network.inputs())
        used_once(subject.model, subject.inputs)
    except Exception as error:  # noqa: BLE001  # whatever a library says of its own network
        why = f"{type(error).__name__}: {error or traceback.format_exc(limit=-1)}"
        _append(results, network, BUILD, Verdict(RAW, why, 0))
        return
    for method in methods:
        _append(results, network, method, judged(method, subject))


def _append(results: Path, network: Network, method: str, verdict: Verdict) -> None:
    """Add a line at once, whole, whoever else writes."""
    row = {
        "library": network.library,
        "family": network.family,
        "name": network.name,
        "version": _versions()[network.library],
        "method": method,
        **asdict(verdict),
    }
    file = os.open(results, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, (json.dumps(row) + "\n").encode())
    finally:
        os.close(file)


if __name__ == "__main__":
    main()
