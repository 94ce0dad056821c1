"""One GossipSwarm agent: a sans-IO core, the asyncio runtime that drives it, its HTTP API."""
