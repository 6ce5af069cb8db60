"""Commands on finished runs: verify, set on the board, publish."""
