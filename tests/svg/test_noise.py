"""The counter-based generator: known answers, purity, and the distributions it draws."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from svg.noise import Noise, philox


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # Random123's kat_vectors, philox4x32 with 10 rounds
        ([0, 0, 0, 0], (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF, 0xFFFFFFFF), [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_philox_known_answers(counter, key, expected):
    words = philox(tuple(torch.tensor(word) for word in counter), key)
    assert [int(word) for word in words] == expected


def index(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(n)[:, None], torch.arange(5)


def test_draws_are_a_pure_function_of_seed_stream_and_index():
    noise = Noise(3, index(4))
    assert torch.equal(noise.normal(2, 3), Noise(3, index(4)).normal(2, 3))
    assert torch.equal(noise.normal(7)[2:3], Noise(3, (torch.tensor([[2]]), torch.arange(5))).normal(7))
    assert torch.equal(noise[1:3].uniform(5), noise.uniform(5)[1:3])
    for other in (
        Noise(4, index(4)),
        noise.child(0),
        noise.child(1),
        noise.child(0).child(0),
        Noise(3, index(4), stream=1),
    ):
        assert not torch.equal(noise.uniform(8), other.uniform(8))


def word(seed: int = 0, index: tuple[int, ...] = (0, 0, 0)) -> tuple[int, ...]:
    return tuple(Noise(seed, tuple(torch.tensor(part) for part in index))._words((4,)).tolist())


def test_every_bit_of_seed_and_index_counts():
    """64 bits of the seed, 32 of each part of the index."""
    seeds = [word(seed=1 << bit) for bit in range(64)]
    parts = [(1 << bit, 0, 0) for bit in range(32)]
    indices = [word(index=part[place:] + part[:place]) for part in parts for place in range(3)]
    assert len({word(), *seeds, *indices}) == 1 + 64 + 96


def test_streams_of_streams_do_not_collide():
    """All chains of up to three children of numbers below 8."""
    root = Noise(0, (torch.tensor([0]),))
    chains = [root]
    for _ in range(3):
        chains += [noise.child(stream) for noise in chains for stream in range(8)]
    streams = {noise.stream for noise in chains}
    assert len(streams) == 1 + 8 + 8**2 + 8**3
    drawn = {tuple(Noise(0, root.index, stream)._words((4,)).flatten().tolist()) for stream in streams}
    assert len(drawn) == len(streams)


def test_box_muller_at_its_ends(monkeypatch):
    """The least and the largest word are 2^-33 from 0 and 1: the normals reach 6.76 and never overflow."""
    ends = torch.tensor([0, 0, 0xFFFFFFFF, 0, 0, 1 << 31, 0, 1 << 30])
    monkeypatch.setattr(Noise, "_words", lambda self, size: ends[None])
    noise = Noise(0, (torch.tensor([0]),))
    u = torch.tensor([2.0**-33, 1 - 2.0**-33], dtype=torch.float64)
    far, near = (-2 * u.log()).sqrt().tolist()
    expected = torch.tensor([[far, 0, near, 0, -far, 0, 0, far]])
    assert torch.allclose(noise.normal(8), expected, rtol=1e-6, atol=1e-7)
    assert noise.uniform(8)[0, [0, 2]].tolist() == [2.0**-33, 1 - 2.0**-24]


@given(st.integers(1, 9), st.integers(0, 9))
def test_a_longer_draw_starts_with_the_shorter_one(short, more):
    noise = Noise(1, index(2))
    assert torch.equal(noise.normal(short + more)[..., :short], noise.normal(short))
    assert torch.equal(noise.uniform(short + more)[..., :short], noise.uniform(short))


@given(st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1))
def test_any_seed_and_index_give_finite_draws(seed, entry):
    noise = Noise(seed, (torch.tensor([entry]),))
    assert noise.normal(64).isfinite().all()
    u = noise.uniform(64)
    assert (u > 0).all() and (u < 1).all()


def test_shapes_and_dtypes():
    noise = Noise(0, index(3))
    assert noise.normal().shape == noise.uniform().shape == (3, 5)
    assert noise.normal(2, 4).shape == (3, 5, 2, 4)
    assert noise.normal(1).dtype == noise.uniform(1).dtype == torch.float32
    with pytest.raises(ValueError, match="one to three"):
        Noise(0, ())


def test_draws_follow_their_distributions():
    noise = Noise(11, (torch.arange(200),))
    normal, uniform = noise.normal(500).flatten().double(), noise.uniform(500).flatten().double()
    assert stats.kstest(normal.numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(uniform.numpy(), "uniform").pvalue > 1e-3
    assert abs(normal.mean()) < 0.015 and abs(normal.var() - 1) < 0.02
    assert abs((normal**4).mean() - 3) < 0.15


def test_neighbours_are_uncorrelated():
    draws = Noise(0, (torch.arange(300),)).normal(300).double()
    for a, b in ((draws[1:], draws[:-1]), (draws[:, 1:], draws[:, :-1])):
        assert abs((a * b).mean()) < 0.015
    other = Noise(0, (torch.arange(300),)).child(0).normal(300).double()
    assert abs((draws * other).mean()) < 0.015
