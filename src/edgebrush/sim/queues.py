"""FIFO queues of tasks, one per service class, linked through the tasks' ``next`` fields."""

from edgebrush.scenario.parameters import NONE

from .compile import compiled


@compiled
def append(world, owner, t):
    """Append task t to the queue of its class in ``owner`` (a UE's or a BS's record)."""
    task = world.task[t]
    task.next = NONE
    p = task.service_class
    if owner.head[p] == NONE:
        owner.head[p] = t
    else:
        world.task[owner.tail[p]].next = t
    owner.tail[p] = t


@compiled
def pop_first(params, world, owner):
    """Remove and return the first task of the first non-empty class, or NONE."""
    for p in range(params.common[0].classes):
        t = owner.head[p]
        if t != NONE:
            owner.head[p] = world.task[t].next
            return t
    return NONE
