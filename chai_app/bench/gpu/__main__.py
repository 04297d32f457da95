import os

from . import main

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # libraries that look for a network wait long for none
main()
