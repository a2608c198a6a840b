"""The next event: a tournament tree over all sources of events.

Leaf numbers: 0 the broadcast, then each UE's arrivals, each UE's device, each BS's engine, uplink and
downlink, at last the slot. The tree's node 1 holds the earliest time; a tie goes to the lower leaf.
"""

import numpy as np

from .compile import compiled

BROADCAST, FIRST_ARRIVAL = 0, 1


@compiled
def device_leaf(params, i):
    return FIRST_ARRIVAL + params.common[0].ue_count + i


@compiled
def station_leaf(params, j):
    """The engine's leaf; the uplink's is the next one, the downlink's the one after."""
    return FIRST_ARRIVAL + 2 * params.common[0].ue_count + 3 * j


@compiled
def slot_leaf(params):
    return FIRST_ARRIVAL + 2 * params.common[0].ue_count + 3 * params.common[0].bs_count


@compiled
def clear(world):
    for node in range(2 * world.episode[0].leaves):
        world.tree[node] = np.inf


@compiled
def schedule(world, leaf, time):
    """Set the time of a leaf's next event (inf: none)."""
    tree = world.tree
    node = world.episode[0].leaves + leaf
    tree[node] = time
    node //= 2
    while node >= 1:
        earlier = min(tree[2 * node], tree[2 * node + 1])
        if tree[node] == earlier:
            break
        tree[node] = earlier
        node //= 2


@compiled
def earliest(world):
    """The leaf whose event comes first; its time is ``tree[1]``."""
    tree, leaves = world.tree, world.episode[0].leaves
    node = 1
    while node < leaves:
        node *= 2
        if tree[node] > tree[node + 1]:
            node += 1
    return node - leaves
