"""The policy at work: BS servers that make real images."""
