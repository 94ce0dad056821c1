"""Local swarms: a supervisor process, the workers it keeps alive, and the client that talks to it.

``client``, ``layout`` and ``errors`` are imported by every CLI call and stay light; everything else is
imported by the supervisor alone.
"""
