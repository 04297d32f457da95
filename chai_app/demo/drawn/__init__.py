"""The demo model's world: what a clip can show, how it is drawn, and how people might describe it."""
