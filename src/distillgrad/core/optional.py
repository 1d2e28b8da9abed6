"""Optional packages: imported when they are needed, with an error that names the extra."""

from __future__ import annotations

import importlib
import logging
import sys
from types import ModuleType
from typing import Any

from distillgrad.errors import MissingExtraError

_log = logging.getLogger(__name__)
_kept_alive: list[object] = []


def optional(module: str, extra: str, package: str | None = None) -> ModuleType:
    """Return the imported ``module``.

    Args:
        module: Its dotted name.
        extra: The extra of distillgrad that installs it.
        package: Its name in the registry, where that differs.

    Raises:
        MissingExtraError: it is not installed.
    """
    root = module.partition(".")[0]
    if root in ("torchvision", "timm", "transformers", "zennit"):
        _import_torchvision()  # the others import it too
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(package or root, extra) from error


def _import_torchvision() -> None:
    """Import torchvision, also beside a build of torch that its compiled operators do not fit.

    torchvision swallows that its compiled library does not load (a CUDA build beside a CPU build of torch)
    and then fails at registering shapes for two operators that the library would have defined. Models and
    transforms need neither, so declaring both is enough. Without torchvision nothing happens.
    """
    if "torchvision" in sys.modules:
        return
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        import torch

        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library: Any = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
        _kept_alive.append(library)  # its declarations go with it
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        importlib.import_module("torchvision")
        _log.info("torchvision's compiled operators do not fit this torch; models and transforms do")
