"""The random numbers of many environments: reproducible alone and together, uniform, independent."""

import functools

import numpy as np
from stpn_envs.sampling import Streams, distinct

from tests.chances import STANDARD_ERRORS, is_close, is_uniform


def test_a_stream_gives_the_same_numbers_alone_and_among_others():
    together, alone = Streams(5), Streams(1)
    together.seed({row: 100 + row for row in range(5)})
    alone.seed({0: 103})
    for episode in range(3):
        # the others use other amounts, and so may this one: an episode does not depend on those before it
        together.bits(np.array([0, 3]), 7 * episode)
        together.next_episode(np.array([1, 3]))
        alone.next_episode(np.array([0]))
        for count in (1, 4, 2):
            both = together.bits(np.array([3, 1]), count)
            np.testing.assert_array_equal(both[0], alone.bits(np.array([0]), count)[0])
            assert (both[0] != both[1]).all()


def test_the_numbers_are_those_of_splitmix64():
    streams = Streams(1)
    streams._keys[0] = 0  # the published generator, from state 0
    first = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert streams.bits(np.array([0]), 3)[0].tolist() == first


def test_neighbouring_seeds_and_following_draws_are_uncorrelated():
    streams = Streams(1000)
    streams.seed({row: row for row in range(1000)})
    bits = streams.bits(np.arange(1000), 1000)
    values = (bits >> np.uint64(11)).astype(float) / 2**53 - 0.5
    assert abs(values.mean()) < STANDARD_ERRORS / np.sqrt(12 * values.size)
    for one, other in [(values[1:], values[:-1]), (values[:, 1:], values[:, :-1])]:
        assert abs((one * other).mean() * 12) < STANDARD_ERRORS / np.sqrt(one.size)
    set_bits = np.unpackbits(bits.view(np.uint8).reshape(-1, 8), axis=1).mean(axis=0)
    assert is_close(set_bits, 0.5, values.size).all()


def test_distinct_values_come_in_every_order_equally_often():
    streams = Streams(60_000)
    streams.seed({row: row for row in range(60_000)})
    rows = np.arange(60_000)
    # the range may differ from row to row
    high = np.where(rows < 30_000, 4, 3)
    drawn = distinct(functools.partial(streams.integers, rows), high, 3)
    for some, top in ((drawn[:30_000], 4), (drawn[30_000:], 3)):
        orders, counts = np.unique(some, axis=0, return_counts=True)
        assert len(orders) == {4: 24, 3: 6}[top]
        assert all(len(set(order)) == 3 and max(order) < top for order in orders.tolist())
        assert is_uniform(counts)
