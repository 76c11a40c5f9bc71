"""The hash that is computed where a storage lies: any change shows, wherever it is."""

from __future__ import annotations

import pytest
import torch

from ckptd_agent.state import digesting


def digest(tensor: torch.Tensor) -> digesting.Digest:
    (found,) = digesting.digest_all([tensor.untyped_storage()])
    return found


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 4096, 100_003])
def test_each_byte_counts_and_so_does_its_place(size: int, seeded, monkeypatch) -> None:
    monkeypatch.setattr(digesting, "CHUNK", 1000)
    data = torch.randint(0, 256, (size,), dtype=torch.uint8, generator=torch.Generator().manual_seed(size))
    own = digest(data)
    assert digest(data.clone()) == own
    seen = {own}
    for _ in range(min(size, 60)):
        other = data.clone()
        other[seeded.randrange(size)] ^= 1 << seeded.randrange(8)
        seen.add(digest(other))
    assert len(seen) > min(size, 60) * 0.7 or size < 8  # the same bit may have been drawn twice
    assert own not in {digest(torch.cat([data, torch.zeros(1, dtype=torch.uint8)])), None}


def test_words_that_change_places_are_noticed() -> None:
    words = torch.arange(4096, dtype=torch.int64)
    swapped = words.clone()
    swapped[[5, 4000]] = swapped[[4000, 5]]
    assert digest(words) != digest(swapped) != digest(words + 1)
    assert digest(torch.zeros(64)) != digest(torch.zeros(65))


def test_chunks_make_no_difference(monkeypatch) -> None:
    data = torch.randn(10_001)
    whole = digest(data)
    monkeypatch.setattr(digesting, "CHUNK", 77)
    assert digest(data) == whole
