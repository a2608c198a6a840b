"""The arithmetic of prices for server time, shared by the rules and the trained actor.

A server-second that a task takes delays the tasks that come after it. The price is the cost of that delay: it is added
to the selfish expected cost, so that a UE takes the other UEs into account. The functions are elementwise: the rules
call them on scalars (compiled by numba), the actor on arrays of NumPy or JAX.
"""

from __future__ import annotations

from typing import Any

Number = Any  # a scalar, or an array of NumPy or JAX


def server_seconds(fixed_s: Number, server_step_s: Number, steps: Number) -> Number:
    """Server-seconds that a task takes: the fixed part, and its share of each round."""
    return fixed_s + steps * server_step_s


def effective_load(load: Number, in_flight_weight: Number, in_flight: Number) -> Number:
    """The reported load plus the UE's own tasks at the BS, which the report may not contain yet."""
    return load + in_flight_weight * in_flight


def server_price(price: Number, growth: Number, load: Number) -> Number:
    """The cost per server-second; it grows with the load."""
    return price + growth * load
