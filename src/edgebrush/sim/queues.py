"""First-in-first-out lists of tasks, one per service class, through the tasks' own ``next`` fields."""

from edgebrush.scenario.parameters import NONE

from .compile import compiled


@compiled
def append(world, owner, t):
    """Put task t at the end of its class's list in ``owner`` (a UE's or a BS's record)."""
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
    """Take out the first task of the first class that has one, or NONE."""
    for p in range(params.common[0].classes):
        t = owner.head[p]
        if t != NONE:
            owner.head[p] = world.task[t].next
            return t
    return NONE
