"""A comparison beyond the paper: single features removed instead of whole pixels."""

from __future__ import annotations

from distillgrad.methods import find_method
from distillgrad.paper.exhibit import Exhibit, Picture, Setting, Table
from distillgrad.paper.measuring import measure, methods_of, omissions
from distillgrad.paper.registry import EXHIBITS
from distillgrad.paper.verdicts import in_words
from distillgrad.views.leaderboard import leaderboard_record, leaderboard_rows

DEFAULT = "dga,gradient_x_input,guided_backprop,integrated_gradients(n_steps=31),random"
METRICS = ("lerf", "morf", "area_between")
N_IMAGES = 30


def make(setting: Setting) -> Exhibit:
    """Evaluate twice on the same images. Cost: twice ``distillgrad evaluate``."""
    images = setting.images(N_IMAGES)
    methods = {
        label: each
        for label, each in methods_of(setting, DEFAULT).items()
        if find_method(each[0]).result == "features"
    }
    both = {
        words: measure(setting, "per-feature", methods, METRICS, images=images, element=element, run=words)
        for words, element in (("pixels", False), ("features", True))
    }
    tables = []
    for words, results in both.items():
        heads, rows = leaderboard_rows(results.board)
        caption = (
            f"{words.capitalize()} removed, {results.n_images} images; `*`: significantly different from dga."
        )
        tables.append(Table(caption, heads, tuple(rows)))
    subject = both["pixels"].subject
    means = {words: results.board.comparisons["area_between"].means for words, results in both.items()}
    findings = [
        f"Area between of {subject}: {in_words(means['pixels'][subject])} where pixels go, "
        f"{in_words(means['features'][subject])} where single features go. Best by pixels: "
        f"{both['pixels'].board.comparisons['area_between'].best}; by features: "
        f"{both['features'].board.comparisons['area_between'].best}.",
        *omissions(both["pixels"].left_out),
    ]
    return Exhibit(
        *EXHIBITS["per-feature"].heading,
        tuple(findings),
        (),
        tuple(tables),
        (Picture("features/leaderboard.png", "Single features removed: means and 95 % intervals."),),
        {words: leaderboard_record(results.board) for words, results in both.items()},
        both["pixels"].n_images,
    )
