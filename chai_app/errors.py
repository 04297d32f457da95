"""Errors that a person can mend.

Each message is one sentence for that person: what is wrong, where, and what to do. The command line prints it and
exits 2; other faces show the same words in their own way. Anything that is not a `ChaiError` is a bug of ours and
keeps its traceback.
"""


class ChaiError(Exception):
    """Something the user can mend; the message is written for that person."""


class BadRequest(ChaiError):
    """A request that asks for what does not exist or cannot be done."""


class MissingWeights(ChaiError):
    """Weights that are not on this machine; the message names them, their size and the command that fetches them."""


class DamagedCheckpoint(ChaiError):
    """Weights that are here but cannot be used: cut short, of wrong shapes, or with tensors missing."""


class BadMedia(ChaiError):
    """A picture or video that cannot be read."""


class CannotWrite(ChaiError):
    """A file or folder that cannot be written: not there, not permitted, or the disk is full."""


class CannotRead(ChaiError):
    """A file that is there and cannot be read just now: not permitted, or the system has nothing left to read with."""


class Cancelled(Exception):
    """A run that was stopped on purpose; not an error, so it is not a `ChaiError`."""
