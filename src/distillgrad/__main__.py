"""``python -m distillgrad`` is the command ``distillgrad``."""

from distillgrad.cli import app

app(prog_name="distillgrad")
