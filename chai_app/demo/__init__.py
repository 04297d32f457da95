"""The small bundled model: the world it knows, how it was trained, and the judge that measures it."""
