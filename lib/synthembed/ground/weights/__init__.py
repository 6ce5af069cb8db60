"""Models as files: those that packages carry, fetched once, and what a saved folder says of itself."""
