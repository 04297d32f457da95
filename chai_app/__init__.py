"""Videos from prompts with Open-Sora 1.2. The way in is `chai_app.engine.Engine`; importing loads nothing heavy."""

import time

__version__ = "0.1.0"

STARTED = time.perf_counter()
"""When the program began, as near as it can tell: what a person waits for begins here."""
