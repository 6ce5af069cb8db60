"""``python -m benchmarks [encode train ...]``: measurements into results/bench/<name>.json."""

import importlib
import sys

from synthembed.ground.files import ROOT, write_json

NAMES = ["encode", "train", "generate", "gpu"]


def main() -> None:
    for name in sys.argv[1:] or NAMES:
        if name not in NAMES:
            sys.exit(f"no benchmark {name!r}: there are {', '.join(NAMES)}")
        rows = importlib.import_module(f"benchmarks.{name}").run()
        if name == "gpu":  # writes and prints each row when it is measured
            continue
        folder = ROOT / "results" / "bench"
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / f"{name}.json", rows)
        for row in rows:
            peer = (
                f"{row['ratio']:.2f}x {row['peer_name']} ({row['peer']:,.0f})" if row["peer"] else "no peer"
            )
            print(f"{row['name']}: {row['ours']:,.0f} {row['unit']}, {peer}; check: {row['check']}")


main()
