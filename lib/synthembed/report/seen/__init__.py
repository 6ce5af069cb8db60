"""What was seen: one paragraph on a result, made from the numbers of this run."""
