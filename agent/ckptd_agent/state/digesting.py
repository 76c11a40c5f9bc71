"""A hash of storages that is computed on the device where they are, so that what has not changed need not be copied.

It finds changes, it is no signature: each 8 byte word is mixed with its place by the finalizer of MurmurHash3
(https://github.com/aappleby/smhasher), and the results are added up, twice with different keys: 128 bits in all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

CHUNK = 1 << 22
"""Words that are hashed at a time."""
SCRATCH = 10 * 8 * CHUNK
"""Bytes of the device's memory that it takes meanwhile, at most."""
KEYS = (0x2545F4914F6CDD1D, 0x369DEA0F31A53F85)
_STEP = 0x1E3779B97F4A7C15
_FIRST, _SECOND = -0xAE502812AA7333, -0x3B314601E57A13AD
"""The finalizer's two factors, as signed numbers."""
_LOW_31 = (1 << 31) - 1
"""What is left of a 64 bit number behind a shift by 33, which would else repeat the sign."""

Digest = tuple[int, ...]


def fits(devices: Iterable[int]) -> bool:
    """Whether torch has what it takes in its cache, and the program has had more at its peak: then nobody sees it."""
    return all(
        min(torch.cuda.memory_reserved(each), torch.cuda.max_memory_allocated(each))
        - torch.cuda.memory_allocated(each)
        > SCRATCH
        for each in devices
    )


def digest_all(storages: Sequence[torch.UntypedStorage]) -> list[Digest]:
    """One hash for each, with one wait for each device at the end."""
    with torch.inference_mode():
        sums = [_sums(storage) for storage in storages]
    return [(storage.nbytes(), *sum_.tolist()) for storage, sum_ in zip(storages, sums, strict=True)]


def _sums(storage: torch.UntypedStorage) -> torch.Tensor:
    flat = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
    whole = flat.numel() // 8 * 8
    total = torch.zeros(len(KEYS), dtype=torch.int64, device=storage.device)
    words = flat[:whole].view(torch.int64)
    for start in range(0, len(words), CHUNK):
        total += _mixed(words[start : start + CHUNK], start)
    rest = flat[whole:]
    if len(rest):
        last = torch.zeros(8, dtype=torch.uint8, device=storage.device)
        last[: len(rest)] = rest
        total += _mixed(last.view(torch.int64), len(words))
    return total


def _mixed(words: torch.Tensor, first: int) -> torch.Tensor:
    places = torch.arange(first + 1, first + 1 + len(words), device=words.device) * _STEP
    found = []
    for key in KEYS:
        mixed = words ^ (places + key)
        mixed ^= (mixed >> 33) & _LOW_31
        mixed *= _FIRST
        mixed ^= (mixed >> 33) & _LOW_31
        mixed *= _SECOND
        mixed ^= (mixed >> 33) & _LOW_31
        found.append(mixed.sum())
    return torch.stack(found)
