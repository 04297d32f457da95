"""Benchmarks: each answers one question with one table, and writes its raw figures as JSON."""
