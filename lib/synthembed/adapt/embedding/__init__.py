"""How the start model and the adapted one read a reader's texts, and how they are exported."""
