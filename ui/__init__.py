"""The browser UI: one file per page, thin. What it shows and does is the engine's, the cache's and the queue's.

`server.serve` opens it; `shell.build` lays it out; `bridge` is what its script talks to.
"""
