"""The recipe that made the bundled classifier: ``python -m distillgrad.sources.bundled.train CIFAR10``.

SGD with Nesterov momentum on a one-cycle schedule, random crops and flips, bfloat16 autocast. Writes the
weights (float16) and the model card beside this file, or into ``--out``.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from safetensors.torch import save_file
from torch import Tensor, nn

from distillgrad.sources.bundled import CARD, CLASSES, MEAN, STD, WEIGHTS
from distillgrad.sources.bundled.network import Cifar10CNN, normalised
from distillgrad.sources.parquet import LabelledImages, read_cifar10

PADDING = 4
SIDE = 32


def augmented(padded: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Return random 32×32 crops, half mirrored, of the chosen rows of ``padded`` ``(N, 40, 40, 3)``."""
    n = len(chosen)
    offsets = torch.randint(0, 2 * PADDING + 1, (2, n, 1), generator=generator, device="cpu")
    mirrored = torch.rand(n, 1, generator=generator, device="cpu") < 0.5
    forward = torch.arange(SIDE, device="cpu")
    rows = offsets[0] + forward
    columns = offsets[1] + torch.where(mirrored, forward.flip(0), forward)
    return padded[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]


def train(
    data: LabelledImages,
    *,
    epochs: int,
    seed: int,
    batch_size: int = 128,
    peak_rate: float = 0.1,
    weight_decay: float = 5e-4,
) -> Cifar10CNN:
    """Train a network, and return it in eval mode; prints the loss of each epoch."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = Cifar10CNN(len(data.classes))
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    padded = torch.from_numpy(
        np.pad(data.images, ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)), "reflect")
    )
    labels = torch.from_numpy(data.labels)
    steps = len(labels) // batch_size
    optimizer = torch.optim.SGD(
        model.parameters(), peak_rate, momentum=0.9, weight_decay=weight_decay, nesterov=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak_rate, total_steps=epochs * steps, pct_start=0.25, anneal_strategy="linear"
    )
    criterion = nn.CrossEntropyLoss()
    for epoch in range(1, epochs + 1):
        total, order = 0.0, torch.randperm(len(labels), generator=generator, device="cpu")
        for step in track(range(steps), f"epoch {epoch}/{epochs}", transient=True):
            chosen = order[step * batch_size : (step + 1) * batch_size]
            batch = normalised(augmented(padded, chosen, generator), MEAN, STD)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = criterion(model(batch), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch}/{epochs} loss {total / steps:.4f}", flush=True)
    model.eval()
    return model


def accuracy(model: nn.Module, data: LabelledImages) -> float:
    """Return the share of ``data`` that ``model`` classifies correctly, in float32."""
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    with torch.inference_mode():
        correct = 0
        for start in range(0, len(labels), 500):
            logits: Tensor = model(normalised(images[start : start + 500], MEAN, STD))
            correct += int((logits.argmax(1) == labels[start : start + 500]).sum())
    return correct / len(labels)


def main() -> None:
    """Train, round to float16, measure what was written, write the card."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with train.parquet and test.parquet")
    parser.add_argument("--out", type=Path, default=WEIGHTS.parent, help="where the files go")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    began = time.monotonic()
    training, test = (read_cifar10(arguments.data, split) for split in ("train", "test"))
    if training.classes != CLASSES:
        parser.error(f"classes {training.classes} are not CIFAR-10's {CLASSES}")
    model = train(training, epochs=arguments.epochs, seed=arguments.seed)
    minutes = (time.monotonic() - began) / 60

    weights = {
        name: value.contiguous().half() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(weights)
    measured = accuracy(model, test)
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / WEIGHTS.name
    save_file(weights, path)
    (arguments.out / CARD.name).write_text(
        CARD_TEMPLATE.format(
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            epochs=arguments.epochs,
            seed=arguments.seed,
            minutes=minutes,
            torch=torch.__version__,
            accuracy=measured,
            n_test=len(test.labels),
            bytes=path.stat().st_size,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )
    )
    print(f"test accuracy {measured:.4f} of the float16 weights in {path}, {minutes:.0f} minutes")


CARD_TEMPLATE = """\
# cifar10-cnn

A small image classifier for demonstrations, tests and benchmarks: six convolutions and three linear
layers with ReLU and batch norm, the network in which the DGA paper (Jeon et al. 2022, §4.3) runs ROAR.

| | |
|---|---|
| input | RGB 32×32, scaled to [0, 1], mean 0.4914 0.4822 0.4465, std 0.2470 0.2435 0.2616 |
| classes | airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck |
| parameters | {parameters:,} |
| trained on | CIFAR-10's 50,000 training images (Krizhevsky 2009) |
| command | `python -m distillgrad.sources.bundled.train CIFAR10 --epochs {epochs} --seed {seed}` |
| recipe | SGD, Nesterov momentum 0.9, weight decay 5e-4, batch 128, one-cycle rate up to 0.1 |
| augmentation | random crops (reflected padding of 4) and flips |
| arithmetic | bfloat16 autocast, torch {torch}, {minutes:.0f} minutes |
| accuracy | **{accuracy:.2%}** of {n_test:,} test images, measured in float32 with these float16 weights |
| file | `cifar10-cnn.safetensors`, {bytes:,} bytes |
| sha256 | `{sha256}` |

Intended for trying and testing explanations. It knows ten classes and 32×32 pixels: on other photographs
it answers one of the ten whatever is shown, so read its probabilities with care.
Licence: Apache-2.0, as the package.
"""

if __name__ == "__main__":
    main()
