"""DGA against the bare passes it needs, side by side in one run: time and peak memory.

``python benchmarks/dga.py`` prints a table; ``--quick`` only shows that it runs.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads would measure each other
# For the child processes whose memory is measured: what is freed goes back at once and does not count.
os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}

import argparse
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from datetime import datetime, timezone
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import distillgrad as dg

TARGET_TIME, TARGET_MEMORY = 1.05, 1.10
FREE_TENSORS = 5  # of the inputs' size, that DGA may hold beside a pass


def bare_pass(model: nn.Module, inputs: Tensor) -> Tensor:
    """One forward pass and the gradient of the predicted class by the inputs, nothing else."""
    leaf = inputs.detach().requires_grad_()
    logits = model(leaf)
    (gradient,) = torch.autograd.grad(logits.max(1).values.sum(), leaf)
    return gradient


def bare_passes(model: nn.Module, inputs: Tensor, n_passes: int) -> None:
    """So many bare passes, one after the other."""
    for _ in range(n_passes):
        bare_pass(model, inputs)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of ``work``."""
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def ratio_of_times(model: nn.Module, inputs: Tensor, n_steps: int, repeats: int) -> dict[str, float]:
    """DGA and its floor in turns, so that a noisy machine disturbs both; the median of the ratios."""
    dga, target = dg.DGA(model, n_steps=n_steps), [0] * len(inputs)
    bare_passes(model, inputs, 2)
    pairs = [
        (
            seconds(lambda: dga.attribute(inputs, target), inputs.device),
            seconds(lambda: bare_passes(model, inputs, n_steps + 1), inputs.device),
        )
        for _ in range(repeats)
    ]
    ratios = sorted(ours / floor for ours, floor in pairs)
    return {
        "ours_s": statistics.median(ours for ours, _ in pairs),
        "floor_s": statistics.median(floor for _, floor in pairs),
        "ratio": statistics.median(ratios),
        "lowest": ratios[0],
        "highest": ratios[-1],
    }


def _peak_in_child(work: str, name: str, batch: int, side: int, n_steps: int, pipe: Connection) -> None:
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = dg.load_model(f"torchvision:{name}", pretrained=False).model.to(device)
    inputs = torch.randn(batch, 3, side, side, device=device)
    bare_pass(model, inputs[:1])  # what libraries set up once is not counted
    dg.DGA(model, n_steps=1).attribute(inputs[:1])
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew (Linux)
        before = _resident_peak()
    if work == "floor":
        bare_pass(model, inputs)
    else:
        dg.DGA(model, n_steps=n_steps).attribute(inputs, [0] * batch)
    after = torch.cuda.max_memory_allocated() if device.type == "cuda" else _resident_peak()
    pipe.send(after - before)


def _resident_peak() -> int:
    """Bytes; of this process alone, which ``getrusage`` after an exec is not."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024


def peak_memory(work: str, name: str, batch: int, side: int, n_steps: int) -> int:
    """Bytes that ``work`` needs above an idle process with the model loaded; each in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_peak_in_child, args=(work, name, batch, side, n_steps, send))
    child.start()
    child.join()
    if not receive.poll():
        raise RuntimeError(f"measuring the memory of {work} on {name} failed")
    peak: int = receive.recv()
    return peak


def as_markdown(rows: list[dict[str, Any]], hardware: str) -> str:
    """The page for the documentation."""
    lines = [
        "# What DGA costs",
        "",
        "DGA beside the passes it cannot do without: N+1 times one forward pass and the gradient by the "
        "input, nothing else, in turns in one run. Peak memory is that of a fresh process above its level "
        "with the model loaded; the floor is that of one pass, and DGA may take "
        f"{TARGET_MEMORY} × (floor + {FREE_TENSORS} tensors of the inputs' size).",
        "",
        f"Hardware: {hardware}. Made by `make bench`.",
        "",
        "| work | DGA | floor | median ratio (range) | target | met | peak | floor | allowed | met |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['work']} | {row['ours_s']:.2f} s | {row['floor_s']:.2f} s "
        f"| **{row['ratio']:.3f}** ({row['lowest']:.3f}–{row['highest']:.3f}) | ≤ {TARGET_TIME} "
        f"| {'yes' if row['ratio'] <= TARGET_TIME else 'no'} | {row['ours_mb']:.0f} MB "
        f"| {row['floor_mb']:.0f} MB | {row['allowed_mb']:.0f} MB "
        f"| {'yes' if row['ours_mb'] <= row['allowed_mb'] else 'no'} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print, keep as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs")
    parser.add_argument("--models", default="resnet18")
    parser.add_argument("--batches", default="8")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--page", type=Path, help="write the table as Markdown, too")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    batches = [2] if arguments.quick else [int(each) for each in arguments.batches.split(",")]
    side, n_steps, repeats = (64, 3, 1) if arguments.quick else (224, 30, arguments.repeats)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    hardware = (
        torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"{platform.machine()}, {torch.get_num_threads()} threads"
    )
    rows: list[dict[str, Any]] = []
    for name in arguments.models.split(","):
        torch.manual_seed(0)
        model = dg.load_model(f"torchvision:{name}", pretrained=False).model.to(device)
        for batch in batches:
            inputs = torch.randn(batch, 3, side, side, device=device)
            row: dict[str, Any] = {
                "work": f"DGA N={n_steps}, {name}, {batch}×3×{side}×{side}",
                **ratio_of_times(model, inputs, n_steps, repeats),
            }
            floor, ours = (peak_memory(work, name, batch, side, n_steps) for work in ("floor", "dga"))
            allowed = TARGET_MEMORY * (floor + FREE_TENSORS * inputs.nbytes)
            row |= {"ours_mb": ours / 1e6, "floor_mb": floor / 1e6, "allowed_mb": allowed / 1e6}
            rows.append(row)
    page = as_markdown(rows, f"{hardware}, torch {torch.__version__}")
    print(page)
    if arguments.page:
        arguments.page.write_text(page)
    arguments.out.mkdir(parents=True, exist_ok=True)
    when = datetime.now(timezone.utc)
    record = {"when": when.isoformat(), "hardware": hardware, "torch": torch.__version__, "rows": rows}
    path = arguments.out / f"dga-{when:%Y%m%dT%H%M%S}.json"
    path.write_text(json.dumps(record, indent=2))
    print(path)


if __name__ == "__main__":
    main()
