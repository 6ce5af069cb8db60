"""In the place of the package of this name, which jsonschema uses where it is there: see cluster_runs.python_path."""

raise ImportError("Ray's processes start without it")
