"""The call that all methods share, as Captum users know it: checked, planned and clean; and their facts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from captum.attr import Attribution, GradientAttribution
from captum.log import log_usage
from torch import Tensor

from distillgrad.core.batch import Batch, TargetLike, checked_batch
from distillgrad.core.batch_size import RowsAtATime, best_batch_size
from distillgrad.core.calls import expect_call, expect_inputs_first
from distillgrad.core.chunks import attribute_in_chunks
from distillgrad.core.examination.first_use import Work, examine, expecting_the_same_again
from distillgrad.core.forward import Model, must_be_callable, uncounted
from distillgrad.core.plan import Plan, checked_size, plan_rows
from distillgrad.errors import ModelError, ParameterError
from distillgrad.methods.blank_maps import as_notes, gradient_facts, score_facts, why_blank


class Method(Attribution):  # type: ignore[misc]  # Captum is untyped
    """A Captum attribution of single tensors whose rows do not depend on each other.

    Subclasses state their facts and implement :meth:`_attribute` for a checked batch. The model is
    explained in eval mode; it and the inputs are afterwards as they were, also after an error.

    Args:
        model: A module or any callable from inputs ``(N, …)`` to logits ``(N, classes)``, scores ``(N,)``,
            or a tuple, mapping or object that holds ``logits``.

    Raises:
        ModelError: ``model`` cannot be called, or takes its inputs by keyword only or not first.
    Attributes:
        signed: Whether negative values mean "speaks against".
        result: ``"features"``: the inputs' shape; ``"pixels"``: ``(N, 1, H, W)``.
        cost: What a row costs, in words; :attr:`n_passes` counts it.
        source: Where the method was published.
        layerwise: Whether the result depends on the layers, so that an equivalent network with others (a
            batch norm folded into its convolution) gets another.
        needs_module: Whether the model must be an ``nn.Module``, because the method works on its layers.
        multiplies_by_inputs: For Captum: whether the result is in units of the score.
        notes: What the reader of the last maps must know of how they came about, in sentences.
        blank: By row, why a map of the last call is zero, or one number, everywhere; ``notes`` say it, too.
    """

    signed: ClassVar[bool]
    result: ClassVar[Literal["features", "pixels"]] = "features"
    cost: ClassVar[str] = "1 gradient pass"
    source: ClassVar[str]
    layerwise: ClassVar[bool] = False
    needs_module: ClassVar[bool] = False
    multiplies_by_inputs: ClassVar[bool] = False

    def __init__(self, model: Model) -> None:
        must_be_callable(model)
        expect_inputs_first(uncounted(model))
        super().__init__(model)
        self.notes: tuple[str, ...] = ()
        self.blank: Mapping[int, str] = {}

    @property
    def n_passes(self) -> int:
        """The number of times that the model is called for each row."""
        return 1

    @log_usage()  # type: ignore[untyped-decorator]  # NoiseTunnel calls what this wraps
    def attribute(
        self,
        inputs: Tensor,
        target: TargetLike = None,
        *,
        baselines: Tensor | float = 0.0,
        additional_forward_args: Any = None,
        internal_batch_size: RowsAtATime = None,
    ) -> Tensor:
        """Return attributions of the target's score, in the inputs' dtype and on their device.

        Args:
            inputs: ``(N, …)`` floats as the model takes them; not modified.
            target: A class number, one per sample, a callable from the model's output to one scalar per
                sample, or ``None`` for each sample's predicted class.
            baselines: What "no feature" is: a number or a tensor that broadcasts to ``inputs``.
            additional_forward_args: Passed to the model after the inputs; tensors of length N are cut
                with them.
            internal_batch_size: Rows at a time; by default all, halved when memory runs out. ``"auto"``:
                as many as make a row cheapest, measured once per model and device. On a CPU its cores share
                the rows (see :mod:`~distillgrad.core.plan`): threads call the model at once.
        Raises:
            InputError, TargetError, ParameterError: a request that cannot be met.
            ModelError: a model that fails, has no gradient, keeps a state from call to call, or returns NaN
                or infinity.
        Cost: the method's; one gradient pass more for a row whose map is zero everywhere, to say why.
        """
        batch = checked_batch(
            inputs, target, baselines=baselines, additional_forward_args=additional_forward_args
        )
        model = self.forward_func
        expect_call(uncounted(model), (inputs, *batch.extra))
        self.notes, self.blank = (), {}
        gradients = isinstance(self, GradientMethod)
        with expecting_the_same_again(model, batch):
            if internal_batch_size == "auto":
                internal_batch_size = best_batch_size(model, batch, gradients=gradients)
            size = checked_size(internal_batch_size) or len(batch)
            plan = (
                plan_rows(model, batch, size, n_passes=self.n_passes)
                if self._thread_safe
                else Plan(len(batch), size)
            )
            examine(model, batch, Work(self.n_passes, size, gradients))
            attributions = attribute_in_chunks(model, self._attribute, batch, plan)
            self._expect_shape(attributions, inputs)
            self.blank = why_blank(model, self._blank_facts, self._zero_means, batch, attributions, size)
        for sentence in as_notes(self.blank, len(batch)):
            self._note(sentence)
        return attributions

    def _expect_shape(self, attributions: Tensor, inputs: Tensor) -> None:
        """Check that there is a number for each feature, or each pixel, of each row.

        Raises:
            ModelError: there is not.
        """
        shape = inputs.shape if self.result == "features" else (len(inputs), 1, *inputs.shape[2:])
        if attributions.shape != shape:
            raise ModelError(
                f"{type(self).__name__} returned a map of shape {tuple(attributions.shape)} for inputs of "
                f"shape {tuple(inputs.shape)}; it must be {tuple(shape)}"
            )

    def _note(self, sentence: str) -> None:
        """Add a sentence to the notes, once for all chunks of a call."""
        self.notes = tuple(dict.fromkeys((*self.notes, sentence)))

    @property
    def _zero_means(self) -> str:
        """The meaning of a map of zeros by the method's rule alone, in words; "" where it has none."""
        return ""

    def _blank_facts(self, batch: Batch) -> Sequence[str]:
        """Return for each of the batch's rows, whose maps are blank, what can be looked up of the reason."""
        if isinstance(self, GradientMethod):
            return gradient_facts(self.forward_func, batch, by_baselines=self.multiplies_by_inputs)
        return score_facts(self.forward_func, batch)

    @property
    def _thread_safe(self) -> bool:
        """The permission to run :meth:`_attribute` in several threads at once, each on its own rows."""
        return not self.needs_module  # which puts hooks on a copy of it

    @abstractmethod
    def _attribute(self, batch: Batch) -> Tensor:
        """Return attributions of the batch's rows, all at once; the model is in eval mode."""


def whole_number(name: str, value: int, least: int = 1) -> int:
    """Return the value of a parameter, if it is a whole number of at least ``least``.

    Raises:
        ParameterError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ParameterError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return value


class GradientMethod(Method, GradientAttribution):  # type: ignore[misc]  # Captum is untyped
    """A :class:`Method` that takes gradients of the model."""
