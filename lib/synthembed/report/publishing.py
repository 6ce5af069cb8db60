"""The trained model of a run as a folder to publish, with a card that has its scores."""

from __future__ import annotations

import shutil
from pathlib import Path

from synthembed.evaluation.scores import averages
from synthembed.ground.files import read_json
from synthembed.model.export import model_card
from synthembed.profile.settings import Profile


def publish(run: Path, folder: Path) -> Path:
    """The trained model of a run with its adapter and a card that has its measured scores.

    Reads what stages 02 to 04 wrote under ``run``; raises FileNotFoundError naming what is missing.
    """
    needed = (
        "02_analyze/statistics.json",
        "03_train/stage.json",
        "03_train/model",
        "04_evaluate/scores.json",
    )
    for name in needed:
        if not (run / name).exists():
            raise FileNotFoundError(f"{run.name}/{name} is missing: run that stage first")
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder.name} is not empty: choose another folder")
    shutil.copytree(run / "03_train" / "model", folder, dirs_exist_ok=True)
    if (run / "03_train" / "adapter").exists():
        shutil.copytree(run / "03_train" / "adapter", folder / "adapter")
    record = read_json(run / "03_train" / "stage.json")
    rows = [r for r in read_json(run / "04_evaluate" / "scores.json")["rows"] if r["system"] == "trained"]
    statistics = read_json(run / "02_analyze" / "statistics.json")
    evaluated = read_json(run / "04_evaluate" / "stage.json")["settings"]["evaluate"]
    profile = Profile(name=record["profile"], **record["settings"], evaluate=evaluated)
    card = model_card(profile, record["data"], record["steps"], statistics, rows, averages(rows))
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder
