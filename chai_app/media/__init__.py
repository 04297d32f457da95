"""Videos and pictures: written whole or not at all, read without trusting them."""
