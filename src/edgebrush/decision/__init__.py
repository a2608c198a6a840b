"""What a UE sees and can choose: the observation, the action space, the cost of a task."""
