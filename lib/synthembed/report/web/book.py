"""The site: a static book of one run, built offline by Sphinx, that works from a folder.

Course (the executed notebooks), report, examples, numbers, reference, and the pages of docs/. Every script and
font is in the folder; nothing is asked of any other machine.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import tempfile
from pathlib import Path
from urllib.parse import unquote

from synthembed.ground import run_folders
from synthembed.ground.files import read_json, shipped, shown
from synthembed.report import claims, page
from synthembed.report.results import Results
from synthembed.report.web import course, example_scripts, provenance, reference, sections

PACKAGE_DATA = ("static/*",)  # read here, and so part of the code's fingerprint
STATIC = Path(__file__).parent / "static"
RECORDS = ("examples", "numbers")  # pages whose records are loaded by script
# Pages of docs/ by where they stand in the book; what is not named here stands under the last heading.
DOCS = {
    "Use it": ["recipes", "commands", "resuming", "labelled-data", "families", "gpu", "cluster"],
    "Understand it": ["lesson-plan", "glossary", "review", "protocol", "suite-validity", "data-card", "deviations"],
    "How it was built": ["architecture", "decisions", "bugs-and-fixes", "minutes", "prefix-cache"],
}  # fmt: skip
KEPT = re.compile(r"\..*|CNAME")  # in the folder of a site that is replaced: what publishes it
# The second one writes .nojekyll, without which GitHub's pages leave out _static.
EXTENSIONS = ["myst_nb", "sphinx.ext.githubpages", "synthembed.report.web.mathml"]


class SiteError(RuntimeError):
    """The site cannot be built."""


class MissingPackages(SiteError, ImportError):
    """What builds the site is not installed."""


def build(run: Path, out: Path) -> Path:
    """Build the site of a run into ``out``, which is replaced but for a checkout's .git and the like; returns its first
    page.

    Raises SiteError if Sphinx is not installed (MissingPackages), has an error, or ``out`` holds something else
    than a site.
    """
    try:
        from sphinx.application import Sphinx
    except ModuleNotFoundError as error:
        raise MissingPackages(
            f"{error.name} is missing: `make site` installs what the site needs (requirements-extras.lock)"
        ) from None
    there = [p for p in out.iterdir() if not KEPT.fullmatch(p.name)] if out.exists() else []
    if there and not (out / "searchindex.js").exists():
        raise SiteError(f"{shown(out)} holds something else than a site: choose another folder with --out")
    with tempfile.TemporaryDirectory() as temporary:
        source, made = Path(temporary) / "source", Path(temporary) / "html"
        write_source(run, source)
        with open(Path(temporary) / "log", "w+", encoding="utf-8") as log:
            app = Sphinx(
                source, None, made, Path(temporary) / "trees", "html", confoverrides=_settings(run),
                status=None, warning=log, freshenv=True,
            )  # fmt: skip
            app.build()
            log.seek(0)
            said = log.read().replace(str(source), "").strip()
        if app.statuscode:
            raise SiteError(f"Sphinx could not build the site:\n{said}")
        if said:
            print(said)
        shutil.rmtree(made / "_sources", ignore_errors=True)
        for old in there:
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
        shutil.copytree(made, out, dirs_exist_ok=True)
    return out / "index.html"


def _settings(run: Path) -> dict:
    return {
        "project": "synthembed",
        "author": "the synthembed contributors",
        "html_title": f"Text embeddings from synthetic data: {run.name}",
        "extensions": EXTENSIONS,
        "html_theme": "sphinx_book_theme",
        "html_theme_options": {
            "show_toc_level": 2, "use_download_button": False, "use_fullscreen_button": False,
            "show_navbar_depth": 1, "navbar_persistent": [], "home_page_in_toc": True,
        },
        "html_context": {"default_mode": "auto"},
        "html_static_path": ["_static"],
        "html_css_files": ["report.css", "site.css"],
        "html_js_files": [("site.js", {"defer": "defer"})],
        "html_show_search_summary": False,  # it would fetch pages, which a folder does not allow
        "html_copy_source": False,
        "html_domain_indices": False,  # the reference has a page for each room
        "html_show_copyright": False,
        "html_math_renderer": "mathml",
        "nb_execution_mode": "off",
        "nb_ipywidgets_js": {},
        "myst_enable_extensions": ["dollarmath", "amsmath"],
        "myst_heading_anchors": 3,
        "suppress_warnings": ["myst.header", "mystnb.unknown_mime_type", "ref.python"],
        "highlight_language": "python",
    }  # fmt: skip


# --- sources ---------------------------------------------------------------------------------------


def write_source(run: Path, source: Path) -> None:
    """Everything that Sphinx reads, in ``source``: pages, scripts, styles, records."""
    static = source / "_static"
    static.mkdir(parents=True)
    for path in (*STATIC.iterdir(), sections.TEMPLATES / "report.css"):
        shutil.copy(path, static / path.name)
    rendered = page.render(run, static / "report", run_folders.reference(run.name))
    names = course.write(run, source / "course")
    text = _to_course(_report(run, rendered), source / "course")
    (source / "report.md").write_text(text, encoding="utf-8")
    alone = (
        static / "report" / "report.html"
    )  # its notebooks lie in the site as well, and nowhere else for who has it
    alone.write_text(
        _to_course(alone.read_text(encoding="utf-8"), source / "course", "../../"), encoding="utf-8"
    )
    (source / "examples.md").write_text(
        _examples(run, example_scripts.write(run, static / "records")), encoding="utf-8"
    )
    (source / "numbers.md").write_text(_numbers(rendered.entries, static / "records"), encoding="utf-8")
    (source / "made.md").write_text(_made(run), encoding="utf-8")
    rooms = reference.write(source / "reference")
    (source / "reference" / "index.md").write_text(
        "# Reference\n\nThe library room by room, read from its source. "
        "[The library from above](../docs/architecture.md) says what each room is for.\n\n"
        + "\n".join(f"* [synthembed.{room}]({room}.rst)" for room in rooms),
        encoding="utf-8",
    )
    documents = _documents(source / "docs")
    others = _other_runs(run, static)
    (source / "index.md").write_text(_index(run, rendered, others, names, documents, rooms), encoding="utf-8")


def _raw(text: str) -> str:
    return f"``````{{raw}} html\n{text}\n``````\n"


def _toctree(caption: str, names: list[str], depth: int = 1, hidden: bool = False) -> str:
    options = [f":caption: {caption}"] if caption else []
    options += [f":maxdepth: {depth}"] + ([":hidden:"] if hidden else [])
    return "```{toctree}\n" + "\n".join([*options, "", *names]) + "\n```\n"


def _index(
    run: Path,
    rendered: page.Rendered,
    others: list[str],
    names: list[str],
    documents: dict[str, list[str]],
    rooms: list[str],
) -> str:
    opening = rendered.opening.replace('href="#claim-', 'href="report.html#claim-').replace(
        "<h2 ", '<p role="heading" aria-level="2" '
    )
    opening = opening.replace("at a glance</h2>", "at a glance</p>")
    said = [
        "---\nhtml_theme.sidebar_secondary.remove: true\n---",
        "# Improving Text Embeddings with Large Language Models",
        f"An open, runnable companion to the paper of Wang et al. (ACL 2024): synthetic data, training, evaluation and "
        f"every table of it, from one command. The numbers on these pages are those of the run `{run.name}`.",
        _raw(f'<div class="report">{opening}</div>'),
        *others,
        "**Where to go.** [Read the course](course/" + names[0] + ".ipynb), the notebooks as they ran. "
        "[See the report](report.md): claims, tables, figures. [Browse the examples](examples.md) with their requests. "
        "[Look a number up](numbers.md). [How the numbers were made](made.md)." if names else "",
        "## How to cite",
        _raw(f'<div class="report">{sections.cite()}</div>'),
        _toctree("Results", ["report", "numbers", "made", "examples"], hidden=True),
        _toctree("The course", [f"course/{name}" for name in names], hidden=True),
        *(_toctree(caption, pages, hidden=True) for caption, pages in documents.items() if pages),
        _toctree("The library", ["reference/index", *(f"reference/{room}" for room in rooms)], hidden=True),
    ]  # fmt: skip
    return "\n\n".join(filter(None, said))


def _other_runs(run: Path, static: Path) -> list[str]:
    """Of every other committed run: what becomes of the claims in it, with its report, whose notebooks are not here."""
    said = []
    for folder in sorted(p.parent.parent for p in run_folders.committed().glob("*/07_report/stage.json")):
        if folder.name == run.name:
            continue
        text, out = (
            (folder / "07_report" / "report.html").read_text(encoding="utf-8"),
            f"report-{folder.name}.html",
        )
        (static / out).write_text(
            re.sub(r'<a href="[^"]*\.ipynb[^"]*">(.*?)</a>', r"\1", text), encoding="utf-8"
        )
        ledger = read_json(folder / "07_report" / "claims.json")
        seeds = len(Results(folder).stage("03_train").get("seeds", [1]))
        told = "; ".join(f"{badge}: {', '.join(ids)}" for badge, ids in claims.by_badge(ledger).items())
        said.append(
            f"**The claims by the run `{folder.name}`**, {seeds} {'seed' if seeds == 1 else 'seeds'}: {told}. "
            f'<a href="_static/{out}">Its report</a> has the evidence.'
        )
    return said


def _report(run: Path, rendered: page.Rendered) -> str:
    said = ["# The report", f"What the run `{run.name}` measured, beside the paper. One file for printing or sending: "
            '<a href="_static/report/report.html">report.html</a>; the tables and figures as files lie beside it.']  # fmt: skip
    for part in rendered.parts:
        said += [
            f"({part.id})=\n## {part.title}",
            _raw(f'<div class="report">{part.html}</div>') if part.html else "",
        ]
        for section in part.sections:
            said += [
                f"({section.id})=\n### {section.title}",
                _raw(f'<div class="report">{section.html}</div>'),
            ]
    return "\n\n".join(filter(None, said))


def _to_course(text: str, folder: Path, top: str = "") -> str:
    """The report's links to notebooks as links to the pages of the course, and to a heading that is there; ``top`` is
    the way from where the text lies to the site's first page."""
    from docutils.nodes import make_id

    headings = {
        path.stem: {make_id(h) for h in re.findall(r'"#+ (.+?)(?:\\n)?"', path.read_text(encoding="utf-8"))}
        for path in folder.glob("*.ipynb")
    }

    def link(found: re.Match) -> str:
        name, heading = found[1], make_id(unquote(found[2]))
        if name not in headings:
            return f'href="{top}report.html"'
        return f'href="{top}course/{name}.html' + (f'#{heading}"' if heading in headings[name] else '"')

    return re.sub(r'href="[^"]*?/(\w+)\.ipynb#([^"]*)"', link, text)


def _records(about: dict, base: str = "_static/records/") -> str:
    data = html.escape(json.dumps(about, ensure_ascii=False))
    return _raw(
        f'<div class="report records" id="{about["name"]}" data-base="{base}" data-about="{data}">'
        "<p>The list is made by a script of this folder: allow scripts to see it.</p></div>\n"
        '<script src="_static/records.js"></script>'
    )


def _examples(run: Path, about: dict | str) -> str:
    if isinstance(about, str):
        return f"# The examples\n\n{about}\n"
    kept = (Results(run).statistics or {}).get("examples")
    apart = (
        f" The run's filters keep {kept:,} of them; those here are the replies before the filters."
        if kept and kept != about["count"]
        else ""
    )
    return (
        f"# The examples\n\nAll {about['count']:,} examples that an LLM wrote for this run, each with the request that asked "
        f"for it.{apart} The [data card](docs/data-card.md) says where they come from.\n\n{_records(about)}"
    )


def _numbers(entries: list[dict], folder: Path) -> str:
    """Every verdict with how its number was made. A number of ours that does not compare stands alone."""
    from docutils.nodes import make_id

    records = []
    for entry in entries:
        run = entry["run"] or {}
        made = {
            "stage": run.get("stage"), "system": run.get("system"), "measured on": run.get("benchmark"),
            "commit": (run.get("commit") or "")[:10], "profile": run.get("profile_hash"),
            "seeds": ", ".join(map(str, run.get("seeds", []))), "mteb": run.get("mteb"),
        }  # fmt: skip
        records.append({
            "number": entry["id"], "artefact": entry["artefact"], "verdict": entry["verdict"],
            "the paper's": entry["paper"] if entry["comparable"] or entry["ours"] is None else None,
            "ours": entry["ours"], "why": entry["why"], **made,
            "made": f"made.html#{make_id('made-' + run['stage'])}" if run.get("stage") else None,
        })  # fmt: skip
    records.sort(key=lambda record: record["ours"] is None)  # what was measured here comes first
    starts = range(0, len(records), 400)
    folder.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(starts):
        example_scripts.script(folder, "numbers", number, records[start : start + 400])
    about = {
        "name": "numbers", "chunks": len(starts), "filters": ["artefact", "verdict", "stage"],
        "head": ["verdict", "stage"],
        "fields": ["number", "the paper's", "ours", "measured on", "system", "commit", "profile", "seeds", "mteb", "why"],
        "lists": ["why"], "more": None,
    }  # fmt: skip
    return (
        f"# The numbers\n\nThe {len(records):,} numbers and artefacts of the paper, each with its verdict and, where this run "
        "has one of its own, how that was made. A published number stands beside ours only where the two compare.\n\n"
        + _records(about)
    )


def _made(run: Path) -> str:
    """By stage: the command, and every file that it read and wrote with its SHA-256."""
    results = Results(run)
    said = [
        "# How the numbers were made",
        "By stage: what made it, from what, when, and for how much. Every hash is a SHA-256, as `stage.json` keeps it.",
    ]
    for row in provenance.rows(results):
        record = results.records[row["stage"]]
        versions = ", ".join(f"{k} {v}" for k, v in record.get("versions", {}).items())
        said.append(f"(made-{row['stage']})=\n## {row['stage']}")
        said.append(
            "\n".join([
                f"* command: `{row['command']}`", f"* commit: `{row['commit']}`", f"* profile: {row['profile']}",
                f"* seeds: {row['seeds']}", f"* begun {record.get('started')}, took {row['seconds']} s, cost {row['usd']} USD",
                f"* machine: {row['machine']}", f"* versions: {versions}",
            ])
        )  # fmt: skip
        for kind in ("inputs", "outputs"):
            if files := record.get(kind):
                lines = "".join(
                    f"<li><code>{name}</code> <code>{sha}</code></li>" for name, sha in files.items()
                )
                said.append(_raw(
                    f'<div class="report"><details><summary>{kind}: {provenance.digest(files)}</summary>'
                    f'<ul class="small">{lines}</ul></details></div>'
                ))  # fmt: skip
    return "\n\n".join(said)


def _documents(folder: Path) -> dict[str, list[str]]:
    """Pages of docs/ under their headings; links to what the site does not have become text."""
    docs = shipped("docs")
    folder.mkdir(parents=True)
    if not docs.is_dir():
        return {}
    pages = sorted(docs.rglob("*.md"))
    inside = {p.relative_to(docs).as_posix() for p in docs.rglob("*") if p.is_file()}
    for path in docs.rglob("*"):
        if path.suffix in (".png", ".svg"):
            (folder / path.relative_to(docs)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / path.relative_to(docs))
    for path in pages:
        name = path.relative_to(docs)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(
            _document(path.read_text(encoding="utf-8"), name, inside), encoding="utf-8"
        )
    found: dict[str, list[str]] = {caption: [] for caption in DOCS}
    placed = {name: caption for caption, names in DOCS.items() for name in names}
    order = [name for names in DOCS.values() for name in names]

    def rank(name: str) -> int:
        return order.index(name) if name in order else len(order)

    for path in sorted(pages, key=lambda p: (rank(_top(p, docs)), p)):
        caption = placed.get(_top(path, docs), list(DOCS)[-1])
        found[caption].append(f"docs/{path.relative_to(docs).with_suffix('').as_posix()}")
    return found


def _top(path: Path, docs: Path) -> str:
    return path.relative_to(docs).with_suffix("").parts[0]


def _document(text: str, name: Path, inside: set[str]) -> str:
    def link(found: re.Match) -> str:
        target = found[3].partition("#")[0]
        here = (name.parent / target).as_posix()
        if found[3].startswith(("http:", "https:", "#")) or _flat(here) in inside:
            return found[0]
        return found[2]

    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", link, text)


def _flat(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
