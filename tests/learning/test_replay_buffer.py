"""The replay: what comes out is what went in, and nobody who writes in place can change it."""

from types import SimpleNamespace

import numpy as np

from edgebrush.learning.replay_buffer import Replay

LENGTH, COPIES = 3, 2


def batch(first, groups=2):
    """A collection in which every number tells its update and episode."""
    episodes = groups * COPIES
    number = 1000.0 * first + 10.0 * np.arange(LENGTH)[:, None] + np.arange(episodes)
    states = np.stack([np.concatenate([number, number[-1:] + 10.0]), np.zeros((LENGTH + 1, episodes))], -1)
    return SimpleNamespace(
        observations=number[..., None].astype(np.float32),
        states=states.astype(np.float32),
        choices=number.astype(np.int32),
        rewards=-number.astype(np.float32),
        gaps_s=number.astype(np.float32) / 2.0,
    )


def test_a_sequence_is_one_groups_copies_in_the_order_of_their_decisions():
    replay = Replay(4, LENGTH, COPIES, 1, 2)
    replay.add(batch(0))
    drawn = replay.draw(np.random.default_rng(0), 20, 3)
    assert drawn.observations.shape == (20, 3, LENGTH, COPIES, 1) and drawn.states.shape[-1] == 2
    groups = {tuple(sequence[0]) for sequence in drawn.choices.reshape(-1, LENGTH, COPIES)}
    assert groups == {(0, 1), (2, 3)}  # and nothing of the room that is still empty
    for sequence in drawn.choices.reshape(-1, LENGTH, COPIES):
        np.testing.assert_array_equal(sequence, sequence[0] + 10 * np.arange(LENGTH)[:, None])
    np.testing.assert_array_equal(drawn.rewards, -drawn.choices)
    np.testing.assert_array_equal(drawn.states[..., 0], drawn.choices)
    np.testing.assert_array_equal(drawn.gaps_s, drawn.choices / 2.0)


def test_the_oldest_are_forgotten():
    replay = Replay(4, LENGTH, COPIES, 1, 2)
    for update in range(3):
        replay.add(batch(update))
    drawn = replay.draw(np.random.default_rng(0), 200)
    assert set(np.unique(drawn.choices // 1000)) == {1, 2}


def test_neither_what_went_in_nor_what_came_out_shares_memory_with_the_replay():
    replay, given = Replay(2, LENGTH, COPIES, 1, 2), batch(1)
    replay.add(given)
    for array in vars(given).values():
        array[...] = -7
    first = replay.draw(np.random.default_rng(0), 5)
    kept = [array.copy() for array in first]
    for array in first:
        array[...] = -8
    second = replay.draw(np.random.default_rng(0), 5)
    for array, before in zip(second, kept, strict=True):
        np.testing.assert_array_equal(array, before)
    replay.add(batch(2))
    np.testing.assert_array_equal(second.choices, kept[2])


def test_a_checkpoint_brings_back_the_same_draws():
    replay, other = Replay(3, LENGTH, COPIES, 1, 2), Replay(3, LENGTH, COPIES, 1, 2)
    replay.add(batch(0))
    replay.add(batch(1))
    other.take_up(replay.state())
    replay.add(batch(2))
    other.add(batch(2))
    for a, b in zip(*(r.draw(np.random.default_rng(1), 30) for r in (replay, other)), strict=True):
        np.testing.assert_array_equal(a, b)
