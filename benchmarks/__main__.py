"""``python -m benchmarks [encode train ...]``: measurements into results/bench/<name>.json."""

import importlib
import os
import sys

from synthembed.ground.files import ROOT, write_json

NAMES = ["encode", "train", "generate", "gpu", "busy", "scale", "explorers"]


def main() -> None:
    load, cores = (os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0), os.cpu_count() or 1
    if load > 0.5 * cores:
        print(
            f"the machine is busy (load {load:.1f} on {cores} cores): ratios hold roughly, rates do not",
            flush=True,
        )
    for name in sys.argv[1:] or NAMES:
        if name not in NAMES:
            sys.exit(f"no benchmark {name!r}: there are {', '.join(NAMES)}")
        measured = importlib.import_module(f"benchmarks.{name}").run()
        if name == "gpu":  # writes and prints each row when it is measured
            continue
        folder, rows = ROOT / "results" / "bench", []
        folder.mkdir(parents=True, exist_ok=True)
        for row in measured:  # what is cut short leaves what it measured
            rows.append(row)
            write_json(folder / f"{name}.json", rows)
            print(line(row), flush=True)


def line(row: dict) -> str:
    """A row in words; where the ratio is not the one to the peer, the peer stands for itself."""
    shown = {
        k: f"{row[k]:,.0f}" if row[k] >= 10 else f"{row[k]:.2f}"
        for k in ("ours", "peer")
        if row[k] is not None
    }
    if not row["peer"]:
        peer = "no peer"
    elif row["ratio"] == row["ours"]:
        peer = f"{row['peer_name']} {shown['peer']}"
    else:
        peer = f"{row['ratio']:.2f}x {row['peer_name']} ({shown['peer']})"
    return f"{row['name']}: {shown['ours']} {row['unit']}, {peer}; check: {row['check']}"


if __name__ == "__main__":
    main()
