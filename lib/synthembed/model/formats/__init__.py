"""An exported folder → the format of another runtime, with the same vectors, or refused with a reason."""
