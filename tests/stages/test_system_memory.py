"""Memory as a container or a batch job gives it, in both versions of control groups."""

import psutil
import pytest
from synthembed.stages.planning import system_memory

GB = 10**9


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Writes a group's files; this process is in ``a/b`` of both versions."""
    monkeypatch.setattr(system_memory, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(system_memory, "OWN", tmp_path / "own")
    (tmp_path / "own").write_text("4:memory:/a/b\n1:cpu:/a\n0::/a/b\n")
    machine = psutil.virtual_memory()
    monkeypatch.setattr(
        system_memory.psutil, "virtual_memory", lambda: machine._replace(total=64 * GB, available=50 * GB)
    )

    def write(place: str, **files) -> None:
        folder = tmp_path / "groups" / place
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / f"memory.{name}").write_text(f"{text}\n")

    return write


def test_a_job_has_what_its_group_and_those_around_it_leave(groups):
    assert system_memory.free_and_total() == (50, 64)
    groups("a/b", max="max", current=GB, stat="anon 1\ninactive_file 0")
    assert system_memory.free_and_total() == (50, 64)
    groups("a", max=8 * GB, current=5 * GB, stat=f"anon 1\ninactive_file {2 * GB}")
    assert system_memory.free_and_total() == (5, 8), "files that were read are given back at need"
    groups("a/b", max=6 * GB, current=7 * GB, stat="inactive_file 0")
    assert system_memory.free_and_total() == (0, 6)


def test_a_container_sees_its_own_group_at_the_root(groups):
    """Where the path is the host's; with the older files as well."""
    groups(
        "memory",
        limit_in_bytes=4 * GB,
        usage_in_bytes=GB,
        stat=f"inactive_file 1\ntotal_inactive_file {GB // 2}",
    )
    assert system_memory.free_and_total() == (3.5, 4)
    groups("memory", limit_in_bytes=9223372036854771712)  # none
    assert system_memory.free_and_total() == (50, 64)


def test_elsewhere_it_is_the_machines(groups, tmp_path):
    (tmp_path / "own").unlink()
    assert system_memory.free_and_total() == (50, 64)
