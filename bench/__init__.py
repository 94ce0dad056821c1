"""Benchmarks of GossipSwarm: ``python -m bench [names]`` measures, prints and writes ``docs/results``."""
