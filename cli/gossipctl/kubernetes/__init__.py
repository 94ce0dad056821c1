"""The Kubernetes backend: swarms are GossipSwarm objects, agents are pods behind the API server.

It needs no more than kubectl does: a kubeconfig, and rights on the objects that a command touches. Everything
goes through a small client of the API server (``api``), because a call may cost 120 ms of CPU and the
official one takes longer to import.
"""
