"""Every claim of the paper, in our words, with its place there and the exhibit that puts it to the test."""

from __future__ import annotations

from dataclasses import dataclass

from distillgrad.paper.verdicts import Verdict


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        name: The name that verdicts call it by.
        words: The claim in our words.
        source: Its place in the paper.
        exhibit: The exhibit that puts it to the test.
    """

    name: str
    words: str
    source: str
    exhibit: str


CLAIMS = (
    Claim(
        "noise-maps",
        "FullGrad's heat maps change under Gaussian noise on the image; those of IG and DGA stay as they are",
        "Figure 2, §3.1",
        "figure-2",
    ),
    Claim(
        "noise-scores",
        "FullGrad's perturbation scores suffer from that noise, more than those of IG and DGA",
        "Figure 2",
        "figure-2",
    ),
    Claim(
        "kink",
        "Two inputs as close as one likes, with the same output but in different linear regions, get "
        "different FullGrad attributions",
        "§3.1",
        "figure-3",
    ),
    Claim(
        "region-a",
        "In the baseline's linear region IG equals FullGrad, and moving x₁ changes its attribution alone",
        "Figure 3d, §3.1",
        "figure-3",
    ),
    Claim(
        "region-b",
        "In another region, moving x₁ changes IG's attribution of x₂, too, but not FullGrad's",
        "Figure 3d, §3.1",
        "figure-3",
    ),
    Claim(
        "paths",
        "IG's paths to the baseline's own region stay in it; those to another region cross several",
        "§3.1",
        "figure-3",
    ),
    Claim(
        "cheaper",
        "Adaptive exploration of linear regions costs less than RISE's random one, for explanations as good",
        "§3.2",
        "table-1",
    ),
    Claim(
        "bias-share",
        "FullGrad's Ψ makes too much of the biases of deep layers, which spreading them evenly mends",
        "§3.2, eq. 4",
        "table-1",
    ),
    Claim(
        "local",
        "Other local attributions, such as Gradient×Input, can take Uniform FullGrad's place",
        "§3.2, Appendix G",
        "local-attribution",
    ),
    Claim(
        "saturation",
        "With the weak mask alone strong features stay strong to the end; the extreme mask breaks that up",
        "Figure 4, §3.2",
        "figure-4",
    ),
    Claim(
        "ends-empty",
        "Distillation ends with all pixels at zero, x̃(N) = 0",
        "§3.2 before eq. 6; against eq. 11",
        "figure-4",
    ),
    Claim(
        "modules",
        "The weak mask, the extreme mask and the ReLU each contribute",
        "§3.3, Appendices A and H",
        "ablation",
    ),
    Claim(
        "grid",
        "N = 30 and q = 0.9 are what a grid search finds",
        "§4, Appendix K",
        "hyperparameters",
    ),
    Claim("lerf", "DGA has the highest LeRF of the six methods", "Table 1, §4.1", "table-1"),
    Claim("morf", "DGA has the lowest MoRF of the six methods", "Table 1, §4.1", "table-1"),
    Claim("table-1-order", "The order of the six methods in Table 1", "Table 1", "table-1"),
    Claim("table-1-values", "The numbers of Table 1", "Table 1", "table-1"),
    Claim(
        "others",
        "DGA also outperforms LRP, RISE and other methods of Appendix I",
        "Abstract, §4.1, Appendix I",
        "table-1",
    ),
    Claim(
        "sensitivity-n",
        "DGA has the highest sensitivity-n of the six methods at every share of the cells",
        "Table 2, §4.2",
        "table-2",
    ),
    Claim("table-2-order", "The order of the six methods in Table 2", "Table 2", "table-2"),
    Claim(
        "roar",
        "Networks trained without DGA's pixels lose the most accuracy",
        "Figure 5, §4.3",
        "figure-5",
    ),
    Claim(
        "roar-steep",
        "The fall is steep already where 10 % of the pixels are gone",
        "Figure 5, §4.3",
        "figure-5",
    ),
    Claim("ig-noisy", "IG's attributions are noisy; DGA's form patches", "Abstract, §1, §4.4", "figure-6"),
    Claim("sharp", "DGA's maps are sharper than FullGrad's", "§4.4, Figure 6", "figure-6"),
    Claim("aligned", "DGA's maps lie on the object more than others", "§4.4, Figure 6", "figure-6"),
    Claim(
        "class-oriented",
        "Aggregating local attributions along the sequence gives a heat map that is oriented on the class",
        "Figure 1",
        "ablation",
    ),
    Claim(
        "anchors",
        "The sum over the anchors n = 0 … N and the mean over n = 1 … N are one method",
        "Algorithm 1; against eq. 12",
        "ablation",
    ),
    Claim(
        "applies",
        "DGA can be applied to networks of various kinds",
        "§5",
        "table-1",
    ),
)


def claim(name: str) -> Claim:
    """Return the claim of that name."""
    return next(each for each in CLAIMS if each.name == name)


def finding(verdict: Verdict) -> str:
    """Return a verdict as a sentence: the claim, the outcome, our numbers, the reason."""
    tested = f"{verdict.numbers}; {verdict.why}" if verdict.numbers else verdict.why
    return f"{claim(verdict.claim).words}: {verdict.outcome}: {tested}."
