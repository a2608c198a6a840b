"""An action is the index of its triple in a C-ordered array."""

import numpy as np
import pytest

from edgebrush.decision.action_space import ActionSpace
from edgebrush.scenario.expand import action_space
from edgebrush.scenario.load import load_scenario


@pytest.mark.parametrize("space", [ActionSpace(3, (2, 4, 8, 15), 2), ActionSpace(1, (5,), 1)])
def test_actions_number_the_triples_in_c_order(space):
    actions = np.arange(space.count)
    triples = np.unravel_index(actions, space.shape)
    np.testing.assert_array_equal(space.decode(actions), triples)
    np.testing.assert_array_equal(space.encode(*triples), actions)
    assert space.decode(int(actions[-1])) == (space.slots - 1, space.grid_size - 1, space.classes - 1)


def test_a_slot_s_actions_follow_one_another():
    space = ActionSpace(4, (1, 2, 3), 2)
    assert [space.encode(slot, 0, 0) for slot in range(space.slots)] == [n * space.per_slot for n in range(space.slots)]


def test_a_scenario_has_no_more_slots_than_base_stations():
    pair = load_scenario("pair")
    many = pair.decision.model_copy(update={"neighbours": 50})
    assert action_space(pair.model_copy(update={"decision": many})).slots == 1 + pair.bs_count
    assert action_space(pair).step_grid == pair.decision.step_grid
