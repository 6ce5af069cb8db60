"""A text → a vector: the base model, its tokens, encoding, export (Sec. 3.2). Notebooks 03 and 04."""
