"""The command line of GossipSwarm."""

VERSION = "0.1.0"
