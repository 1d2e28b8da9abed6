"""The version of distillgrad."""

__version__ = "0.1.0"
