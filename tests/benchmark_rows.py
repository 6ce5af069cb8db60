"""The form of a benchmark's row, which the tests of all benchmarks hold it to."""

KEYS = {
    "name", "ours", "peer", "peer_name", "ratio", "unit", "check", "machine", "date", "commit", "uncommitted_changes",
}  # fmt: skip
