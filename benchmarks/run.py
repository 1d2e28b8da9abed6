"""Every ratio that we promise, side by side in one run: ``python benchmarks/run.py [--quick]``."""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "5000")  # threads that spin long would measure each other
# For the child processes whose memory is measured: what is freed goes back at once and does not count.
os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}

import argparse
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from rich.console import Console
from run_works import QUICK_RUNS, RunSizes, prepared_run, run_works

from measure import DEVICE, Spread, in_turns, peak_memory, ratios, spread
from metric_works import QUICK_METRICS, MetricSizes, metric_works
from works import GROWING, QUICK, Sizes, Work, all_works, prepared_method


@dataclass(frozen=True)
class Result:
    """What was measured of one work; memory in bytes."""

    name: str
    ours: Spread
    floor: Spread
    to_floor: Spread
    floor_target: float
    peer_name: str
    faster_than_peer: Spread | None
    peer_target: float
    memory: tuple[int, int, float] | None
    """Ours, the floor, what is allowed."""


def measured(work: Work, repeats: int) -> Result:
    """All of it in turns, after one round that is thrown away."""
    works = {"ours": work.ours, "floor": work.floor}
    if work.peer:
        works["peer"] = work.peer
    in_turns(works, 1)
    times = in_turns(works, repeats)
    memory = None
    if work.memory:
        ours, floor, free = work.memory
        floor_bytes = peak_memory(floor)
        memory = (peak_memory(ours), floor_bytes, 1.10 * (floor_bytes + free))
    return Result(
        name=work.name,
        ours=spread(times["ours"]),
        floor=spread(times["floor"]),
        to_floor=ratios(times["ours"], times["floor"]),
        floor_target=work.floor_target,
        peer_name=work.peer_name,
        faster_than_peer=ratios(times["peer"], times["ours"]) if work.peer else None,
        peer_target=work.peer_target,
        memory=memory,
    )


def _met(condition: bool) -> str:
    return "yes" if condition else "**no**"


def as_markdown(
    results: list[Result],
    growth: Mapping[str, tuple[int, int]],
    passes: tuple[int, int],
    run_memory: Mapping[int, int],
    hardware: str,
    command: str,
) -> str:
    """The page of the documentation."""
    lines = [
        "# Speed and memory",
        "",
        "Ours beside its floor (the bare forward and input-gradient passes that it cannot do without, at the "
        "same batch sizes) and beside what a user would pick instead, in turns in one run; medians of "
        "the rounds' ratios, with their range.",
        "",
        f"Hardware: {hardware}. Made by `{command}`.",
        "",
        "| work | ours | floor | ours / floor | target | met | peer | times faster | target | met |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in results:
        peer = "– | – | – | –"
        if result.faster_than_peer:
            faster = result.faster_than_peer
            met = _met(faster.median >= result.peer_target)
            peer = f"{result.peer_name} | {faster} | ≥ {result.peer_target} | {met}"
        lines.append(
            f"| {result.name} | {result.ours.median:.3g} s | {result.floor.median:.3g} s | {result.to_floor} "
            f"| ≤ {result.floor_target} | {_met(result.to_floor.median <= result.floor_target)} | {peer} |"
        )
    if any(result.memory for result in results):
        lines += [
            "",
            "Peak memory of a fresh process above its level with the model loaded; the floor is one bare "
            "pass, allowed is 1.10 × (floor + five tensors of the inputs' size).",
            "",
            "| work | ours | floor | allowed | met |",
            "|---|---|---|---|---|",
        ]
    for result in results:
        if result.memory:
            ours, floor, allowed = result.memory
            sizes = " | ".join(f"{each / 1e6:.0f} MB" for each in (ours, floor, allowed))
            lines.append(f"| {result.name} | {sizes} | {_met(ours <= allowed)} |")
    if growth:
        lines += [
            "",
            "The same for methods of many passes, on ResNet-18 with 4×3×96×96: it must not grow with them.",
            "",
            f"| method | {passes[0]} passes | {passes[1]} passes |",
            "|---|---|---|",
        ]
        for name, (few, many) in growth.items():
            lines.append(f"| {name} | {few / 1e6:.1f} MB | {many / 1e6:.1f} MB |")
    if run_memory:
        lines += ["", "Peak memory of a run of Saliency over so many images: it must not grow with them.", ""]
        lines += ["| images | above its start |", "|---|---|"]
        lines += [f"| {n_images:,} | {size / 1e6:.1f} MB |" for n_images, size in run_memory.items()]
    return "\n".join(lines) + "\n"


def _asked(only: str, name: str) -> bool:
    return any(all(word in name.lower() for word in part.lower().split()) for part in only.split(","))


def main() -> None:
    """Measure, print, keep as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs")
    parser.add_argument(
        "--only", default="", help="works with these words in their name; others after a comma"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--page", type=Path, help="write the table as Markdown, too")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    console = Console(stderr=True)
    repeats = 1 if arguments.quick else arguments.repeats
    hardware = f"{platform.machine()}, {torch.get_num_threads()} threads"
    if DEVICE.type == "cuda":
        hardware = torch.cuda.get_device_name()
    hardware += f", torch {torch.__version__}; {repeats} rounds"
    command = "make bench"
    if arguments.only:
        command = f'python benchmarks/run.py --only "{arguments.only}" --repeats {repeats}'
    results: list[Result] = []
    growth: dict[str, tuple[int, int]] = {}
    run_memory: dict[int, int] = {}
    passes = (2, 4) if arguments.quick else (10, 300)

    def page() -> str:
        text = as_markdown(results, growth, passes, run_memory, hardware, command)
        if arguments.page:  # so far: what took an hour is not lost with its last minute
            arguments.page.write_text(text)
        return text

    metric_sizes = QUICK_METRICS if arguments.quick else MetricSizes()
    run_sizes = QUICK_RUNS if arguments.quick else RunSizes()
    works = chain(
        all_works(QUICK if arguments.quick else Sizes()), metric_works(metric_sizes), run_works(run_sizes)
    )
    for work in works:
        if not _asked(arguments.only, work.name):
            continue
        with console.status(work.name):
            results.append(measured(work, repeats))
        console.print(f"{work.name}: {results[-1].to_floor.median:.3f} of the floor", highlight=False)
        page()
    for name in list(GROWING)[: 1 if arguments.quick else None]:  # each takes two processes
        if _asked(arguments.only, name):
            with console.status(f"memory of {name}"):
                growth[name] = (
                    peak_memory(partial(prepared_method, name, passes[0])),
                    peak_memory(partial(prepared_method, name, passes[1])),
                )
    if _asked(arguments.only, "memory of attribute"):
        for n_images in (run_sizes.few, run_sizes.many):
            run_memory[n_images] = peak_memory(partial(prepared_run, n_images))
    print(page())
    when = datetime.now(timezone.utc)
    record = {
        "when": when.isoformat(),
        "hardware": hardware,
        "results": [asdict(each) for each in results],
        "growth": growth,
        "run_memory": run_memory,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / f"{when:%Y%m%dT%H%M%S}.json").write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
