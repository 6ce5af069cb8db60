"""Progress: what stays of its lines."""

from synthembed.ground import console


def test_the_last_line_of_progress_stays():
    """And everything else that it printed, in order."""
    said = "start\na: 1/3 tasks, 2 tasks/s, ETA 0:02  x\na: 3/3 tasks, 2 tasks/s, ETA 0:00\ntable\n"
    said += "b: 1/2 steps, 2 steps/s, ETA 0:01\nc: 1/9 steps, 2 steps/s, ETA 0:01\nno: 1/2\nno: 2/2"
    kept = ["start", "a: 3/3 tasks, 2 tasks/s, ETA 0:00", "table", "b: 1/2 steps, 2 steps/s, ETA 0:01",
            "c: 1/9 steps, 2 steps/s, ETA 0:01", "no: 1/2", "no: 2/2"]  # fmt: skip
    assert console.last_only(said).splitlines() == kept and console.last_only("") == ""
