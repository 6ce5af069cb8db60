"""Search over adapted documents: the index on disk, and its page on loopback."""
