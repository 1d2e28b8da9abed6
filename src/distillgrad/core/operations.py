"""One table of torch's operations: what each does to the values that it is given, under all of its names.

Functions, methods, in-place forms and overloads of one operation share its name here, be it called as
``functional.relu``, ``Tensor.relu_``, ``torch.ops.aten.relu.default`` or met as a node of the backward pass.
Guided back-propagation, FullGrad, LRP and DeepLIFT read what they need from these rows; an operation that
changes an image's values and stands in no row is refused by name, never passed over.
"""

from __future__ import annotations

from typing import Any

MOVES = frozenset(
    """
    alias alpha_dropout as_strided bfloat16 cat channel_shuffle chunk clone concat concatenate _conj
    conj constant_pad_nd contiguous copy cpu cuda detach diag diag_embed diagonal double dropout
    dropout1d dropout2d dropout3d expand expand_as feature_alpha_dropout fill flatten flip float
    _fw_primal gather __getitem__ H half hstack im2col imag index index_copy index_put index_select
    lift_fresh lift_fresh_copy masked_fill masked_scatter masked_select mH moveaxis movedim mT narrow
    native_channel_shuffle _neg_view pad permute pixel_shuffle pixel_unshuffle ravel real
    reflection_pad1d reflection_pad2d reflection_pad3d repeat repeat_interleave replication_pad1d
    replication_pad2d replication_pad3d requires_grad_ reshape _reshape_alias reshape_as _reshape_copy
    resolve_conj resolve_neg roll rot90 scatter select select_backward select_scatter __setitem__ slice
    slice_backward slice_scatter split split_with_sizes squeeze stack swapaxes swapdims T t take
    take_along_dim tensor_split tile to _to_copy transpose tril triu type type_as unbind unflatten
    unfold unsafe_chunk _unsafe_index unsafe_split unsafe_split_with_sizes _unsafe_view unsqueeze view
    view_as view_as_complex view_as_real vstack zero
    """.split()  # noqa: SIM905
)
"""Operations that only put values elsewhere, beside constants at most."""
LINEAR = frozenset(
    """
    adaptive_avg_pool1d _adaptive_avg_pool2d adaptive_avg_pool2d _adaptive_avg_pool3d
    adaptive_avg_pool3d addbmm addcmul addmm addmv addr avg_pool1d avg_pool2d avg_pool3d baddbmm
    batch_norm bilinear bmm col2im conv1d conv2d conv3d conv_transpose1d conv_transpose2d
    conv_transpose3d _convolution convolution cudnn_batch_norm cumsum div dot einsum _fft_c2c _fft_c2r
    _fft_r2c fold grid_sample grid_sampler grid_sampler_2d grid_sampler_3d index_add interpolate lerp
    linear matmul mean miopen_batch_norm mkldnn_convolution mkldnn_linear mm mul multiply mv nansum
    native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training neg negative outer
    positive __rmatmul__ scatter_add sum tensordot trace _trilinear true_divide upsample
    upsample_bicubic2d _upsample_bicubic2d_aa upsample_bilinear2d _upsample_bilinear2d_aa
    upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
    _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_trilinear3d vdot
    """.split()  # noqa: SIM905
)
"""Operations that are linear in one operand, the others fixed, and may add a bias."""
ADDITIVE = frozenset(("add", "sub", "subtract", "__rsub__", "rsub"))
"""Sums."""
RECTIFIERS = frozenset(
    """
    clamp clamp_max clamp_min clip fmax fmin hardtanh leaky_relu maximum minimum prelu _prelu_kernel
    relu relu6 rrelu rrelu_with_noise threshold where
    """.split()  # noqa: SIM905
)
"""Operations that are a rectifier, or are one for some of their arguments, such as ``clamp(min=0)``."""
ACTIVATIONS = frozenset(
    """
    abs celu elu gelu hardshrink hardswish log_sigmoid log_sigmoid_forward logsigmoid mish selu silu
    softplus softshrink
    """.split()  # noqa: SIM905
)
"""Nonlinearities that stand where a rectifier may stand, and are none."""
GATES = frozenset(("hardsigmoid", "sigmoid", "tanh", "erf"))
"""Nonlinearities with bounds, which multiply other values, or stand where a rectifier may stand."""
POINTWISE = frozenset(
    """
    acos addcdiv angle asin atan atan2 cos cosh deg2rad erfc erfinv exp exp2 expm1 float_power frac log
    log10 log1p log2 nan_to_num pow reciprocal rsqrt sgn sin sinc sinh sqrt square tan xlogy
    """.split()  # noqa: SIM905
)
"""Other functions of each value by itself."""
NORMS = frozenset(
    """
    cdist _cdist_forward cosine_similarity _euclidean_dist _fused_rms_norm group_norm instance_norm
    layer_norm linalg_norm linalg_vector_norm local_response_norm native_group_norm native_layer_norm
    norm normalize prod rms_norm std std_mean var var_mean
    """.split()  # noqa: SIM905
)
"""Operations that divide by, or return, how far values lie apart."""
SELECTIONS = frozenset(
    """
    adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d amax amin aminmax cummax cummin
    fractional_max_pool2d fractional_max_pool3d kthvalue max max_pool1d max_pool1d_with_indices
    max_pool2d max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool2d max_unpool3d
    median min mode nanmedian sort topk
    """.split()  # noqa: SIM905
)
"""Operations that pass on the values at places which depend on the values."""
SOFTMAXES = frozenset(
    """
    _efficient_attention_forward _flash_attention_forward _log_softmax log_softmax logcumsumexp
    logsumexp _safe_softmax scaled_dot_product_attention _scaled_dot_product_attention_math
    _scaled_dot_product_cudnn_attention _scaled_dot_product_efficient_attention
    _scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu
    _scaled_dot_product_fused_attention_overrideable _softmax softmax softmin
    """.split()  # noqa: SIM905
)
"""Softmax, and what is computed with it in one operation."""
GATED = frozenset(("glu",))
"""Products of one half of the values and a gate that is the other."""
KNOWN = (
    MOVES
    | LINEAR
    | ADDITIVE
    | RECTIFIERS
    | ACTIVATIONS
    | GATES
    | POINTWISE
    | NORMS
    | SELECTIONS
    | SOFTMAXES
    | GATED
)
"""All operations of the table."""


def operation_name(function: Any) -> str:
    """Return the operation's name: ``"relu"`` for ``Tensor.relu_`` and ``torch.ops.aten.relu.default``."""
    name: str = getattr(function, "__name__", repr(function))
    if name == "__get__":
        name = function.__self__.__name__
    elif hasattr(function, "_schema"):  # an operator, whose name ends with its overload's
        name = function._schema.name.rpartition("::")[2]
    return name if name.startswith("__") or name == "requires_grad_" else name.removesuffix("_")
