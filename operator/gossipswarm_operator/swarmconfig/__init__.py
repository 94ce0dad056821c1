"""SwarmConfig: delivers what a manifest, ConfigMaps and Secrets say under a prefix of a swarm's state."""
