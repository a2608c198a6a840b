"""The replay buffer: samples equal what was added, and share no memory with callers."""

from types import SimpleNamespace

import numpy as np

from edgebrush.learning.replay_buffer import ReplayBuffer

LENGTH, COPIES = 3, 2


def rollout(first, groups=2):
    """A rollout in which every number identifies its update, decision and episode."""
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


def test_a_sequence_has_the_copies_of_one_group_in_the_order_of_decisions():
    replay = ReplayBuffer(4, LENGTH, COPIES, 1, 2)
    replay.add(rollout(0))
    sampled = replay.sample(np.random.default_rng(0), 20, 3)
    assert sampled.observations.shape == (20, 3, LENGTH, COPIES, 1) and sampled.states.shape[-1] == 2
    groups = {tuple(sequence[0]) for sequence in sampled.choices.reshape(-1, LENGTH, COPIES)}
    assert groups == {(0, 1), (2, 3)}  # nothing from the part that is still empty
    for sequence in sampled.choices.reshape(-1, LENGTH, COPIES):
        np.testing.assert_array_equal(sequence, sequence[0] + 10 * np.arange(LENGTH)[:, None])
    np.testing.assert_array_equal(sampled.rewards, -sampled.choices)
    np.testing.assert_array_equal(sampled.states[..., 0], sampled.choices)
    np.testing.assert_array_equal(sampled.gaps_s, sampled.choices / 2.0)


def test_the_oldest_sequences_are_overwritten():
    replay = ReplayBuffer(4, LENGTH, COPIES, 1, 2)
    for update in range(3):
        replay.add(rollout(update))
    sampled = replay.sample(np.random.default_rng(0), 200)
    assert set(np.unique(sampled.choices // 1000)) == {1, 2}


def test_neither_added_nor_sampled_arrays_share_memory_with_the_buffer():
    replay, given = ReplayBuffer(2, LENGTH, COPIES, 1, 2), rollout(1)
    replay.add(given)
    for array in vars(given).values():
        array[...] = -7
    first = replay.sample(np.random.default_rng(0), 5)
    kept = [array.copy() for array in first]
    for array in first:
        array[...] = -8
    second = replay.sample(np.random.default_rng(0), 5)
    for array, before in zip(second, kept, strict=True):
        np.testing.assert_array_equal(array, before)
    replay.add(rollout(2))
    np.testing.assert_array_equal(second.choices, kept[2])


def test_a_checkpoint_restores_the_same_samples():
    replay, other = ReplayBuffer(3, LENGTH, COPIES, 1, 2), ReplayBuffer(3, LENGTH, COPIES, 1, 2)
    replay.add(rollout(0))
    replay.add(rollout(1))
    other.load_state_dict(replay.state_dict())
    replay.add(rollout(2))
    other.add(rollout(2))
    for a, b in zip(*(r.sample(np.random.default_rng(1), 30) for r in (replay, other)), strict=True):
        np.testing.assert_array_equal(a, b)
