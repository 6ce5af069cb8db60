"""A finished run looked at from outside: does it follow from itself, and what should be doubted? The board."""
