"""The Kubernetes operator of GossipSwarm."""
