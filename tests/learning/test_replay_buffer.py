"""The replay buffer: samples equal what was added, and share no memory with callers."""

from types import SimpleNamespace

import numpy as np

from edgebrush.learning.replay_buffer import ReplayBuffer

LENGTH, HORIZON, COPIES = 3, 2, 2
NONE = np.zeros(2, bool)


def buffer(decisions=2 * 2 * LENGTH * COPIES):
    """By default space for two rollouts of two groups."""
    return ReplayBuffer(decisions, 2, LENGTH, HORIZON, COPIES, 1, 2)


def rollout(number, groups=2):
    """A rollout whose numbers continue those of the rollout before it, and identify decision and episode."""
    episodes = groups * COPIES
    decision = LENGTH * number + np.arange(LENGTH + 1)
    number = 10.0 * decision[:, None] + np.arange(episodes)
    states = np.stack([number, np.zeros((LENGTH + 1, episodes))], -1)
    number = number[:LENGTH]
    return SimpleNamespace(
        observations=number[..., None].astype(np.float32),
        states=states.astype(np.float32),
        choices=number.astype(np.int32),
        rewards=-number.astype(np.float32),
        gaps_s=number.astype(np.float32) / 2.0,
    )


def heads(replay):
    """The decisions that head a sequence: decision and episode, each once."""
    found = replay.ring.choices[: len(replay), :LENGTH]
    assert len(np.unique(found)) == found.size
    return {(int(x) // 10, int(x) % 10) for x in found.reshape(-1)}


def test_a_sequence_has_the_copies_of_one_group_in_the_order_of_decisions():
    replay = buffer()
    for number in range(2):
        replay.add(rollout(number), NONE)
    sampled = replay.sample(np.random.default_rng(0), 20, 3)
    whole = LENGTH + HORIZON
    assert sampled.observations.shape == (20, 3, whole, COPIES, 1) and sampled.states.shape[-1] == 2
    sequences = sampled.choices.reshape(-1, whole, COPIES)
    assert {tuple(sequence[0] % 10) for sequence in sequences} == {(0, 1), (2, 3)}  # nothing from the empty part
    for sequence in sequences:
        np.testing.assert_array_equal(sequence, sequence[0] + 10 * np.arange(whole)[:, None])
    np.testing.assert_array_equal(sampled.rewards, -sampled.choices)
    np.testing.assert_array_equal(sampled.states[..., 0], sampled.choices)
    np.testing.assert_array_equal(sampled.gaps_s, sampled.choices / 2.0)


def test_every_decision_that_enough_others_follow_heads_one_sequence():
    replay = buffer(10**3)
    for number in range(5):
        replay.add(rollout(number), NONE)
    known = 5 * LENGTH - HORIZON  # of every episode
    assert heads(replay) == {(decision, episode) for decision in range(1, known) for episode in range(2 * COPIES)}


def test_no_sequence_spans_two_episodes():
    replay = buffer(10**3)
    for number in range(6):
        replay.add(rollout(number), np.array([False, number == 3]))
    second = {decision for decision, episode in heads(replay) if episode >= COPIES}
    first = {decision for decision, episode in heads(replay) if episode < COPIES}
    assert first - second == {7, 8, 9}  # decision 9 is the first of the new episode; the next sequence starts at 10
    for sequence in replay.ring.choices[: len(replay)]:
        decisions = sequence[:, 0] // 10
        assert not (sequence[0, 0] % 10 == COPIES and decisions[0] < 9 <= decisions[-1])


def test_the_oldest_sequences_are_overwritten():
    replay = buffer()
    for number in range(4):
        replay.add(rollout(number), NONE)
    assert {decision for decision, _ in heads(replay)} == set(range(4, 10))


def test_neither_added_nor_sampled_arrays_share_memory_with_the_buffer():
    replay, given = buffer(), rollout(1)
    replay.add(rollout(0), NONE)
    replay.add(given, NONE)
    for array in vars(given).values():
        array[...] = -7
    first = replay.sample(np.random.default_rng(0), 5)
    kept = [array.copy() for array in first]
    for array in first:
        array[...] = -8
    second = replay.sample(np.random.default_rng(0), 5)
    for array, before in zip(second, kept, strict=True):
        np.testing.assert_array_equal(array, before)
    replay.add(rollout(2), NONE)
    np.testing.assert_array_equal(second.choices, kept[2])


def test_a_checkpoint_restores_the_same_samples():
    replay, other = buffer(), buffer()
    for number in range(3):
        replay.add(rollout(number), NONE)
    other.load_state_dict(replay.state_dict())
    replay.add(rollout(3), NONE)
    other.add(rollout(3), NONE)
    for a, b in zip(*(r.sample(np.random.default_rng(1), 30) for r in (replay, other)), strict=True):
        np.testing.assert_array_equal(a, b)
