"""Cuts between the regions of a swarm: SwarmPartitions."""
