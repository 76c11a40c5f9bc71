"""How precise torch's matrix products are: one setting with names of three ages, which are not read in the same way.

Before torch 2.9 there is ``set_float32_matmul_precision``, of which cuBLAS's ``allow_tf32`` is another name, and
cuDNN's ``allow_tf32``. Since then each backend has an ``fp32_precision``; the older names lead there, and where the
program has said what they can't, torch raises (or, in some versions, warns) when it is asked by them.
"""

from __future__ import annotations

import torch

BACKENDS = [
    ("generic", "all"), ("cuda", "all"), ("mkldnn", "all"), ("cuda", "matmul"), ("cuda", "conv"), ("cuda", "rnn"),
    ("mkldnn", "matmul"), ("mkldnn", "conv"), ("mkldnn", "rnn"),
]  # fmt: skip
"""What torch 2.9 and later know the precision of; one that stands for several before those."""


def of_backends() -> list[str]:
    """The precisions of BACKENDS. Raises AttributeError in an older torch."""
    return [torch._C._get_fp32_precision_getter(*each) for each in BACKENDS]


def set_backends(saved: list[str]) -> None:
    """Set those that differ."""
    conv, rnn = (saved[BACKENDS.index(("cuda", op))] for op in ("conv", "rnn"))
    if conv == rnn and of_backends()[4:6] != [conv, rnn]:
        # By the old switch first: torch refuses to tell what that is once it says other than the new ones.
        torch.backends.cudnn.allow_tf32 = conv == "tf32"
    for (backend, op), precision in zip(BACKENDS, saved, strict=True):
        if torch._C._get_fp32_precision_getter(backend, op) != precision:
            torch._C._set_fp32_precision_setter(backend, op, precision)


def old_cudnn() -> bool:
    """The switch of torch before 2.9; later ones have precisions, and may warn or raise at the old one.

    Raises:
        LookupError: this is a later one.
    """
    if hasattr(torch._C, "_get_fp32_precision_getter"):
        raise LookupError
    return bool(torch.backends.cudnn.allow_tf32)


def set_old_cudnn(saved: bool) -> None:
    """Set it."""
    torch.backends.cudnn.allow_tf32 = saved


def matmul() -> str | None:
    """The precision by its first name; None where torch refuses to tell it."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return None
