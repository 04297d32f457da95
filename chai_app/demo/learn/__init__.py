"""How the demo model is trained: every part, resumable, from the world that the same code draws."""
