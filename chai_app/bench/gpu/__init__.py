"""A kit for the minutes that a large GPU is at hand; `run.py` says how to use it."""

from .run import main

__all__ = ["main"]
