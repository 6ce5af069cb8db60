"""What every room stands on: where things lie, files, seeds, progress, this machine, models from packages."""
