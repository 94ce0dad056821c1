"""A worker process that hosts many agents, each with its own ports, store and journal.

A supervisor starts it as ``python -m gossipswarm_agent.host`` and drives it over an inherited socket, in
JSON lines; see ``orders``. The agents share the event loop and the threads that wait for disks, nothing else.
"""
