"""What outlives a page: the queue, the gallery, uploads, and how all of it is cleared away."""
