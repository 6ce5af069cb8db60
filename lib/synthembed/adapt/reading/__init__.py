"""A folder of documents, cut into passages, and the languages that they are in."""
