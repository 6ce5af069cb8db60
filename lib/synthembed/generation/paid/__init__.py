"""What only endpoints that may cost money need: how they are reached, what was sent, what it will cost."""
