"""Processes that may be killed: each is forked from one that has imported torch, which takes seconds."""

import multiprocessing
import os
import sys
from contextlib import contextmanager
from pathlib import Path

COMMAND = "import sys; from distillgrad.cli import app; app(sys.argv[1:])"
MODULE = "import runpy; runpy.run_module('distillgrad', run_name='__main__', alter_sys=True)"
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        *("torch", "captum.attr", "zarr", "matplotlib.pyplot", "distillgrad.cli"),
        *(f"distillgrad.runs.{kind}.runner" for kind in ("attribution", "evaluation", "roar")),
    ]
)


def _run(script, arguments, environment, output):
    sys.argv = ["-c", *arguments]
    os.environ.update(environment)
    with open(output, "ab", 0) as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    exec(compile(script, "<script>", "exec"), {"__name__": "__main__"})  # noqa: S102  # a test's own


@contextmanager
def started(script, *arguments, output: Path, **environment):
    """Yield the process that runs ``script``; what it prints goes to the file ``output``."""
    words = [str(each) for each in arguments]
    process = CONTEXT.Process(target=_run, args=(script, words, environment, output))
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()


def finished(script, *arguments, output: Path, **environment):
    """Return the exit status of a process that is waited for."""
    with started(script, *arguments, output=output, **environment) as process:
        process.join(120)
        return process.exitcode
