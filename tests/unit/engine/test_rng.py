"""The global random generators: what is noted of them, and set again."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest

from ckptd.errors import RefusedError
from ckptd_agent.graph import document
from ckptd_agent.state import rng

RANDOM: Any = np.random
"""numpy does not name all of it in its types."""


@pytest.fixture(autouse=True)
def as_it_was():
    former = RANDOM.get_bit_generator()
    state = np.random.get_state()
    yield
    RANDOM.set_bit_generator(former)
    np.random.set_state(state)


@pytest.mark.parametrize("kind", ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"])
def test_numpys_generator_may_be_of_any_kind(kind):
    RANDOM.set_bit_generator(getattr(np.random, kind)(7))
    np.random.standard_normal(3)  # an odd number: one is kept for the next call
    states = msgpack.unpackb(msgpack.packb(rng.take()))
    first = np.random.standard_normal(5).tolist()
    rng.put(states)
    assert np.random.standard_normal(5).tolist() == first


def test_the_list_of_an_older_checkpoint_is_read():
    np.random.seed(3)
    np.random.standard_normal(3)
    state: Any = np.random.get_state()
    kind, keys, position, has_gauss, gauss = state
    states = {**rng.take(), "numpy": [kind, keys.tobytes(), position, has_gauss, gauss]}
    first = np.random.standard_normal(5).tolist()
    rng.put(states)
    assert np.random.standard_normal(5).tolist() == first


@pytest.mark.parametrize("version", [1, document.OLDEST, document.VERSION, document.VERSION + 1])
def test_graphs_of_older_versions_are_read(version):
    data = document.pack({"version": version, "nodes": []})
    if document.OLDEST <= version <= document.VERSION:
        assert document.unpack(data)["version"] == version
    else:
        with pytest.raises(RefusedError, match="update ckptd" if version > 2 else "has taken it"):
            document.unpack(data)
