"""Sidecars: an edge of a swarm beside the containers of a pod that asks for one by a label.

Pure, and tested without a cluster: ``wishes`` (what the pod's annotations ask for), ``sidecar`` (the container and its
volumes), ``decision`` (what becomes of a pod), ``reviews`` (the webhook's question and answer), ``certificates`` (which
certificate is served and trusted when). With input and output: ``server``, which every replica runs, and ``rotation`` and
``uninjected``, which only the leader does.
"""
