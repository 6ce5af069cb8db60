"""Vectors of a large corpus, kept in blocks."""
