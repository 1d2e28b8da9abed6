"""A very small ViT and ConvNeXt of timm for CIFAR-10: ``python benchmarks/small_networks.py vit convnext``.

No trained transformer can be had offline, and random weights have nothing to be faithful to. This trains two
networks on CIFAR-10's train images, and writes their weights, with the accuracy reached on the test images,
into the folder that ``SMALL_NETWORKS`` names. ``--model small_networks:vit`` then loads one, with
``benchmarks`` on Python's path.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from distillgrad.core.optional import optional
from distillgrad.sources import bundled
from distillgrad.sources.bundled.network import normalised
from distillgrad.sources.bundled.train import PADDING, augmented
from distillgrad.sources.classifier import LoadedModel
from distillgrad.sources.parquet import LabelledImages, read_cifar10
from distillgrad.sources.preprocess import ResizeAndCrop

FOLDER = Path(os.environ.get("SMALL_NETWORKS", "small-networks"))
DATA = Path(os.environ.get("DISTILLGRAD_DATA", "../shared/data")) / "cifar10"
BATCH_SIZE, AT_A_TIME, SEED = 128, 500, 0
RATES = {"vit": 2e-3, "convnext": 4e-3}
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": (
        "vit_tiny_patch16_224",
        {"img_size": 32, "patch_size": 4, "embed_dim": 64, "num_heads": 2, "depth": 4},
    ),
    "convnext": ("convnext_atto", {"patch_size": 2, "depths": (1, 1, 3, 1), "dims": (32, 64, 128, 256)}),
}
"""What timm calls them, and what makes them small."""
IN_BFLOAT16 = {"convnext"}
"""On the processor that this was tried on autocast makes the ViT slower."""


def vit() -> LoadedModel:
    """The vision transformer: 64 patches of 4×4 pixels, 4 blocks of width 64."""
    return _loaded("vit")


def convnext() -> LoadedModel:
    """The ConvNeXt: patches of 2×2 pixels, stages of 1, 1, 3 and 1 blocks of width 32 to 256."""
    return _loaded("convnext")


def network(name: str) -> nn.Module:
    """A network of random weights."""
    architecture, shape = SHAPES[name]
    made: nn.Module = optional("timm", "vision").create_model(
        architecture, num_classes=len(bundled.CLASSES), **shape
    )
    return made


def _loaded(name: str) -> LoadedModel:
    model = network(name)
    model.load_state_dict(load_file(FOLDER / f"{name}.safetensors"))
    return LoadedModel(
        model=model.eval(),
        preprocess=ResizeAndCrop(32, 32, bundled.MEAN, bundled.STD),
        classes=bundled.CLASSES,
        input_size=(3, 32, 32),
        mean=bundled.MEAN,
        std=bundled.STD,
        name=f"small_networks:{name}",
    )


def train(name: str, data: LabelledImages, epochs: int) -> nn.Module:
    """AdamW on a one-cycle schedule, random crops and flips; prints each epoch's loss."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    model = network(name).train()
    padded = torch.from_numpy(
        np.pad(data.images, ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)), "reflect")
    )
    labels = torch.from_numpy(data.labels)
    n_batches = len(labels) // BATCH_SIZE
    optimizer = torch.optim.AdamW(model.parameters(), RATES[name], weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATES[name], total_steps=epochs * n_batches)
    for epoch in range(1, epochs + 1):
        began, total = time.monotonic(), 0.0
        order = torch.randperm(len(labels), generator=generator)
        for chosen in order[: n_batches * BATCH_SIZE].view(n_batches, BATCH_SIZE):
            batch = normalised(augmented(padded, chosen, generator), bundled.MEAN, bundled.STD)
            with torch.autocast("cpu", torch.bfloat16, enabled=name in IN_BFLOAT16):
                loss = nn.functional.cross_entropy(model(batch), labels[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item()
        seconds = time.monotonic() - began
        print(f"{name}: epoch {epoch}/{epochs}, loss {total / n_batches:.3f}, {seconds:.0f} s", flush=True)
    return model.eval()


@torch.inference_mode()
def accuracy(model: nn.Module, data: LabelledImages) -> float:
    """The share of ``data`` that ``model`` classifies correctly, in float32."""
    correct = 0
    for start in range(0, len(data.labels), AT_A_TIME):
        images, labels = (
            torch.from_numpy(each[start : start + AT_A_TIME]) for each in (data.images, data.labels)
        )
        logits: Tensor = model(normalised(images, bundled.MEAN, bundled.STD))
        correct += int((logits.argmax(1) == labels).sum())
    return correct / len(data.labels)


def main() -> None:
    """Trains those that are named, writes and prints what was reached."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="+", choices=tuple(SHAPES))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--limit", type=int, help="Train on so many images only.")
    arguments = parser.parse_args()
    training, test = read_cifar10(DATA, "train", limit=arguments.limit), read_cifar10(DATA, "test")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in arguments.names:
        began = time.monotonic()
        model = train(name, training, arguments.epochs)
        facts = {
            "accuracy": f"{accuracy(model, test):.4f}",
            "epochs": str(arguments.epochs),
            "images": str(len(training.labels)),
            "minutes": f"{(time.monotonic() - began) / 60:.1f}",
            "parameters": str(sum(each.numel() for each in model.parameters())),
        }
        path = FOLDER / f"{name}.safetensors"
        save_file({key: each.contiguous() for key, each in model.state_dict().items()}, path, facts)
        with safe_open(path, "pt") as file:
            print(json.dumps({"network": name, **file.metadata()}), flush=True)


if __name__ == "__main__":
    main()
