"""Beyond the paper: single features removed instead of whole pixels."""

from __future__ import annotations

from distillgrad.methods import find_method
from distillgrad.paper.exhibit import Exhibit, Picture, Setting, Table
from distillgrad.paper.measuring import asked_for, measured, omissions
from distillgrad.paper.verdicts import in_words
from distillgrad.views.leaderboard import leaderboard_record, leaderboard_rows

DEFAULT = "dga,gradient_x_input,guided_backprop,integrated_gradients(n_steps=31),random"
METRICS = ("lerf", "morf", "area_between")
N_IMAGES = 30


def make(setting: Setting) -> Exhibit:
    """Evaluates twice on the same images. Cost: twice ``distillgrad evaluate``."""
    images = setting.images(N_IMAGES)
    methods = {
        label: each
        for label, each in asked_for(setting, DEFAULT).items()
        if find_method(each[0]).result == "features"
    }
    both = {
        words: measured(setting, "per-feature", methods, METRICS, images=images, element=element, run=words)
        for words, element in (("pixels", False), ("features", True))
    }
    tables = []
    for words, found in both.items():
        heads, rows = leaderboard_rows(found.board)
        caption = (
            f"{words.capitalize()} removed, {found.n_images} images; `*`: significantly different from dga."
        )
        tables.append(Table(caption, heads, tuple(rows)))
    subject = both["pixels"].subject
    means = {words: found.board.comparisons["area_between"].means for words, found in both.items()}
    findings = [
        f"Area between of {subject}: {in_words(means['pixels'][subject])} where pixels go, "
        f"{in_words(means['features'][subject])} where single features go. Best by pixels: "
        f"{both['pixels'].board.comparisons['area_between'].best}; by features: "
        f"{both['features'].board.comparisons['area_between'].best}.",
        *omissions(both["pixels"].left_out),
    ]
    return Exhibit(
        "per-feature",
        "Single features removed instead of pixels",
        "",
        tuple(findings),
        (),
        tuple(tables),
        (Picture("features/leaderboard.png", "Single features removed: means and 95 % intervals."),),
        {words: leaderboard_record(found.board) for words, found in both.items()},
        both["pixels"].n_images,
    )
