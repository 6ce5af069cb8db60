"""The one door to more than one machine: Ray places functions and actors, moves data and tries again (extra
``cluster``). Knows nothing of models. Notebooks 03 to 05, where a profile has a ``cluster``."""
