"""The policy at work: BS servers that make real images, UE agents that decide where."""
