"""What is looked at in a finished run, one subject a module; each yields findings with names."""
