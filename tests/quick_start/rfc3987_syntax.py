"""In the place of the package of this name, which jsonschema uses where it is there: see tests/conftest.py."""

raise ImportError("processes of the tests start without it")
