"""What of a run is published: the model with its card, the corpus with its card, results as mteb's repository
has them, the site. And its way to a hub, which is asked for only if it is wanted.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from synthembed.ground.files import read_json, shown
from synthembed.report import publishing
from synthembed.report.results import EVALUATION
from synthembed.review.inspection import stored_scores
from synthembed.review.inspection.found import Run

ABOUT = """# What the run `{name}` publishes

Made by `synthembed publish --run {name}` from a run that `synthembed check` found to follow from itself; {doubts} things to doubt are in `review.txt`.

- `model/`: loads with `SentenceTransformer("model")`; its README.md is the model card. To a hub: a model repository.
- `data/`: the synthetic corpus; its README.md is the data card. To a hub: a data set repository.
- `results/`: mteb's results of this model as mteb's results repository has them, `results/<model>/<revision>/<task>.json` with `model_meta.json`. Tasks of this project's own suite are not mteb's and cannot be submitted there; those of public benchmarks can.
- `site/`: open `index.html`; it needs no server and no network.
"""


class NotPublished(RuntimeError):
    """Why a run or a part of it cannot be published."""


@dataclass(frozen=True)
class Repositories:
    """Where the hub has model and data."""

    model: str
    data: str


def gather(run: Path, folder: Path) -> dict[str, int]:
    """Everything of a run that is published, in a new ``folder``: part → files. Raises NotPublished if the run
    contradicts itself, FileNotFoundError naming a stage that has not run, FileExistsError if the folder is in use."""
    from synthembed.review.checking import DOUBT, review

    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: choose another folder")
    for name in ("02_analyze/dataset", "03_train/model", "04_evaluate/mteb/results", "07_report/report.html"):
        if not (run / name).exists():
            raise FileNotFoundError(
                f"{shown(run)}/{name} is missing: of a committed run weights are not kept; publish a run of your own"
            )
    found = review(run)
    if not found.follows:
        raise NotPublished(f"{shown(run)} is not published.\n{found.text()}")
    publishing.publish(run, folder / "model")
    shutil.copytree(run / "02_analyze" / "dataset", folder / "data")
    results(run, folder / "results")
    site(run, folder / "site")
    (folder / "review.txt").write_text(found.text(most=10_000) + "\n", encoding="utf-8")
    about = ABOUT.format(name=run.name, doubts=len(found.of(DOUBT)))
    (folder / "README.md").write_text(about, encoding="utf-8")
    return {p.name: sum(f.is_file() for f in p.rglob("*")) for p in sorted(folder.iterdir()) if p.is_dir()}


def results(run: Path, folder: Path) -> None:
    """mteb's results of the run's own model, without what lies beside them here (texts' own scores, counts of
    cut texts): mteb takes every file there for a result."""
    kept = run / EVALUATION / "mteb" / "results"
    settings = read_json(run / EVALUATION / "stage.json")["settings"]["evaluate"]
    name = settings["submission"]["name"].replace("/", "__")
    own = [r for r in read_json(run / EVALUATION / "scores.json")["rows"] if r["system"] == "trained"]
    seeds = dict.fromkeys(r.get("seed") for r in own)
    of_seeds = [[r for r in own if r.get("seed") == seed] for seed in seeds]
    files = [
        p for rows in of_seeds for f in stored_scores.made_from(Run(run), rows) for p in f.glob("*.json")
    ]
    if not files:
        raise FileNotFoundError(
            f"{shown(kept)}/{name}: no results of the trained model: run 04_evaluate first"
        )
    for path in files:
        place = folder / "results" / path.relative_to(kept)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place)


def site(run: Path, folder: Path) -> None:
    """The site of a run; without the packages of the extra ``site``, the report alone."""
    try:
        from synthembed.report.web import book

        book.build(run, folder)
    except ImportError:
        folder.mkdir(parents=True)
        shutil.copy2(run / "07_report" / "report.html", folder / "index.html")
        print(
            "site: the report alone, since the packages of the extra `site` are not installed (make extras)"
        )


def upload(folder: Path, repository: str, private: bool = True) -> Repositories:
    """Model and data of ``gather`` to the hub that HF_ENDPOINT names (huggingface.co), as OWNER/NAME and
    OWNER/NAME-data. The token is read by huggingface_hub (HF_TOKEN, or `hf auth login`). Raises NotPublished
    with what the hub said."""
    from huggingface_hub import HfApi

    if repository.count("/") != 1:
        raise NotPublished(f"--hub {repository}: OWNER/NAME")
    found, api = Repositories(repository, f"{repository}-data"), HfApi()
    try:
        for name, kind, part in ((found.model, "model", "model"), (found.data, "dataset", "data")):
            api.create_repo(name, repo_type=kind, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=name,
                repo_type=kind,
                folder_path=folder / part,
                commit_message="Published by synthembed",
            )
    except Exception as error:  # the hub, the network, the name: its client raises anything
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise NotPublished(
            f"{name} was not uploaded: {first}\nWhat was gathered lies in {folder}; a token is needed (HF_TOKEN)."
        ) from None
    return found
