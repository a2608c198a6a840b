"""The event calendar: a tournament tree over all sources of events.

Leaves: 0 is the broadcast, then each UE's arrivals, each UE's device, each BS's engine, uplink and downlink, and
last the slot. Node 1 of the tree holds the earliest time; ties go to the lower leaf.
"""

import numpy as np

from .compile import compiled

BROADCAST, FIRST_ARRIVAL = 0, 1


@compiled
def device_leaf(params, i):
    return FIRST_ARRIVAL + params.common[0].ue_count + i


@compiled
def station_leaf(params, j):
    """The leaf of BS j's engine; its uplink and downlink are the next two."""
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
    """Set the time of a leaf's next event (inf: no event)."""
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
    """The leaf with the earliest event; its time is ``tree[1]``."""
    tree, leaves = world.tree, world.episode[0].leaves
    node = 1
    while node < leaves:
        node *= 2
        if tree[node] > tree[node + 1]:
            node += 1
    return node - leaves
