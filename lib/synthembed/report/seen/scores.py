"""What did we see? Paragraphs of notebooks 04 to 07, made from the numbers of this very run (Markdown).

Every sentence is chosen by a comparison of what it names, so that it cannot contradict the table above it; what
noise and chance would give stands beside what was measured.
"""

from __future__ import annotations

from collections import Counter
from math import log2
from statistics import fmean

import pandas as pd

from synthembed.evaluation.intervals import BENCHMARK, wilson
from synthembed.evaluation.scores import APART, TABLE1, averages_by_seed, by_system, by_task
from synthembed.report.results import ABLATIONS, EVALUATION, Results
from synthembed.report.tables import SYSTEM_NAMES
from synthembed.report.verdicts import KINDS
from synthembed.report.words.labels import SUITE

HEAD = "**What did we see?** "
NEAR = 5.0  # points within which a score is called chance's: as far as random vectors stray on tasks of this size


def neighbours(seen: dict[str, dict], sentences: dict[str, str], topics: list[str]) -> str:
    """Of before_after.look: how often the nearest text has a sentence's topic, and texts one another's."""
    counts = Counter(topics)
    chance = sum(n * (n - 1) for n in counts.values()) / (len(topics) * (len(topics) - 1))
    said = []
    for system, found in seen.items():
        near = found["neighbours"]
        hits = sum(topics[best[0][0]] == t for best, t in zip(near, sentences.values(), strict=True))
        low, high = wilson(100 * found["agreement"], len(topics))
        said.append(
            f"{_name(system)} {hits} of {len(near)} and {100 * found['agreement']:.0f} % [{low:.0f}, {high:.0f}]"
        )
    text = (
        f"{HEAD}A text of the same topic is the nearest one to so many of the {len(sentences)} sentences, and of the "
        f"{len(topics)} texts (95 % interval): {'; '.join(said)}. Chance gives {100 * chance:.0f} % of the texts, and of "
        f"{len(sentences)} sentences {len(sentences) * chance:.1f}: five sentences illustrate, the {len(topics)} texts measure."
    )
    if {"base", "trained"} <= set(seen):
        text += " " + _agreement(seen["base"]["agreement"], seen["trained"]["agreement"], len(topics))
    return text


def _agreement(before: float, after: float, count: int) -> str:
    first, then = (wilson(100 * share, count) for share in (before, after))
    if then[0] > first[1]:
        return f"Training raised that share by {100 * (after - before):.0f} points, more than the choice of texts explains."
    if then[1] < first[0]:
        return f"Training lowered that share by {100 * (before - after):.0f} points, more than the choice of texts explains."
    return "The intervals before and after training overlap: these texts show no effect of it."


def readings(seen: dict[str, dict], corpus: list[dict], query: dict, rows: list[dict]) -> str:
    """One message under two instructions, and the suite's two tasks that ask the same of many messages."""
    system = "trained" if "trained" in seen else next(iter(seen))
    found = seen[system]["readings"][query["id"]]
    moved = [i for i, _ in found["subject"]] != [i for i, _ in found["act"]]
    hits = {k: sum(corpus[i][k] == query[k] for i, _ in found[k]) for k in found}
    text = (
        f"{HEAD}The two instructions give {_name(system)} {'other' if moved else 'the same'} nearest messages. Of "
        f"{len(found['subject'])}, {hits['subject']} share the subject under the first instruction, {hits['act']} what "
        "the writer does under the second. One message proves nothing either way."
    )
    measured = {
        t: fmean(r["score"] for r in rows if r["system"] == system and r["task"] == t)
        for t in ("EmbeddedReadingSubject", "EmbeddedReadingAct")
        if any(r["system"] == system and r["task"] == t for r in rows)
    }
    if len(measured) == 2:
        text += (
            " Over all messages nDCG@10 is {:.1f} by subject (chance 6) and {:.1f} by act (chance 8).".format(
                *measured.values()
            )
        )
    return text


def averages(results: Results, chance: dict[str, float]) -> str:
    """Table 1's average: the base beside chance, what training moved and how sure that is, and who is ahead."""
    rows = results.evaluation
    first = next((r["benchmark"] for r in rows), "")
    found = {s: v for s, v in by_system([r for r in rows if r["benchmark"] == first]).items() if "Avg" in v}
    if "trained" not in found:
        return f"{HEAD}There is no trained model among the systems of this run."
    ours, said = found["trained"]["Avg"], []
    if "base" in found and "Avg" in chance:
        above = found["base"]["Avg"] - chance["Avg"]
        place = (
            "about where chance is"
            if abs(above) <= NEAR
            else f"{abs(above):.1f} points {'above' if above > 0 else 'below'} chance"
        )
        said.append(
            f"The untouched base has {found['base']['Avg']:.1f} on average, {place} ({chance['Avg']:.1f})."
        )
    if interval := results.scores[EVALUATION].intervals.get("base"):
        said.append(_moved(interval))
    if behind := {
        s: v for s, v in found.items() if s not in ("trained", "base", "random") and _same(found, s)
    }:
        ahead = {s: v["Avg"] for s, v in behind.items() if v["Avg"] > ours}
        if ahead:
            named = ", ".join(f"{_name(s)} ({v:.1f})" for s, v in ahead.items())
            said.append(f"Ahead of the trained model's {ours:.1f}: {named}.")
        else:
            said.append(f"No other system here has more than the trained model's {ours:.1f}.")
    return HEAD + " ".join(said or [f"The trained model has {ours:.1f}."])


def _same(found: dict[str, dict], system: str) -> bool:
    """Whether a system was measured in every category that the trained model was."""
    return {c for c in found["trained"] if c in TABLE1} <= set(found[system])


def _of_texts(interval: dict) -> dict:
    """What an interval says of other texts: without ends where no texts' scores were kept, as of public sets."""
    here = interval.get(BENCHMARK, interval)
    return here if "texts" in here.get("covers", ["texts"]) else here | {"low": None, "high": None}


def _moved(interval: dict) -> str:
    here = _of_texts(interval)
    text = f"Training moved the average by {here['delta']:+.1f} points"
    if here["low"] is None:
        return text + "; nothing here says how far other texts would move that."
    sure = here["low"] > 0 or here["high"] < 0
    text += f" [{here['low']:+.1f}, {here['high']:+.1f}]: other texts of these tasks would " + (
        "show it too" if sure else "not reliably show it"
    )
    once = interval.get("seeds") == 1
    return text + ("; one training was run, so what another seed would give is not in this." if once else ".")


def languages(rows: list[dict], documents: int | None) -> str:
    """Retrieval by language: where the trained model does well, and beside others. ``documents`` to a language, as in
    the suite, give chance; None for a benchmark where it is next to nothing."""
    several = [r for r in rows if r["category"] == APART[0]]
    first = several[0]["benchmark"] if several else None  # a mean over two benchmarks is of neither
    several = [r for r in several if r["benchmark"] == first]
    of = {
        s: frame.groupby("language")["score"].mean().to_dict()  # of several seeds, as the table has them
        for s, frame in pd.DataFrame(several, columns=["system", "language", "score"]).groupby("system")
    }
    if not of.get("trained"):
        return f"{HEAD}Retrieval in several languages was not run."
    ours = of["trained"]
    order = sorted(ours, key=ours.get)
    text = (
        f"{HEAD}Of {len(ours)} languages the trained model is best in {order[-1]} ({ours[order[-1]]:.0f}) and worst in "
        f"{order[0]} ({ours[order[0]]:.0f})."
    )
    for other in ("base", "static", "bm25", "minilm", "me5-small-4bit"):
        if shared := ours.keys() & of.get(other, {}).keys():
            text += (
                f" Ahead of {_name(other)} in {sum(ours[x] > of[other][x] for x in shared)} of {len(shared)}."
            )
    if documents is None or first != SUITE:
        return text
    chance = 100 * sum(1 / log2(r + 1) for r in range(1, min(10, documents) + 1)) / documents
    return text + (
        f" One right text among {documents} has nDCG@10 {chance:.0f} by chance. A language has some dozens of "
        "questions: a difference of a few points in one of them is noise."
    )


def standing(rows: list[dict], column: str, chance: dict[str, float]) -> str:
    """One kind of task, a column of the averages: the trained model beside the base, chance and the others, and what
    its seeds say of noise."""
    first = next((r["benchmark"] for r in rows), "")
    mine = [r for r in rows if r["benchmark"] == first]
    found = {s: v[column] for s, v in by_system(mine).items() if column in v}
    if "trained" not in found:
        return f"{HEAD}The trained model was not measured on this."
    ours = found.pop("trained")
    known = [f"{_name(s)} {found[s]:.1f}" for s in ("base",) if s in found]
    known += [f"chance {chance[column]:.1f}"] if column in chance else []
    text = f"{HEAD}The trained model has {ours:.1f}" + (f"; {', '.join(known)}." if known else ".")
    ahead = [f"{_name(s)} ({v:.1f})" for s, v in found.items() if v > ours]
    text += f" Ahead of it: {', '.join(ahead)}." if ahead else " No other system here has more."
    seeds = averages_by_seed([r for r in mine if r["system"] == "trained"])
    values = [v[column] for v in seeds.values() if column in v]
    if len(values) > 1:
        return text + (
            f" Its {len(values)} trainings lie between {min(values):.1f} and {max(values):.1f}: a difference no larger may "
            "be noise of training, and other texts would add theirs."
        )
    return text + " It was trained once, so nothing here says what another seed would give."


def pre_training(results: Results, bars: dict[str, dict[str, dict[str, float]]]) -> str:
    """Figure 3's pairs (page.figure3_bars): what a contrastive pre-training moved, and whether that is more than noise."""
    scores, said = results.scores[ABLATIONS], []
    for model, kinds in bars.items():
        plain, after = (
            next(v for k, v in kinds.items() if ("pre-train" in k) == with_it) for with_it in (False, True)
        )
        moved = ", ".join(
            f"{column} {after[column] - plain[column]:+.1f}" for column in plain if column in after
        )
        interval = scores.intervals.get(scores.filler("table7", f"{model}, w/ cont. pre-train") or "", {})
        here = interval.get(BENCHMARK, interval)
        if here.get("low") is None:
            sure = "nothing here says how far other texts or another seed would move that"
        elif here["low"] <= 0 <= here["high"]:
            sure = f"the average's interval [{here['low']:+.1f}, {here['high']:+.1f}] holds 0, so this may be noise"
        else:
            sure = f"the average's interval [{here['low']:+.1f}, {here['high']:+.1f}] does not hold 0"
        said.append(f"In the place of {model} a contrastive pre-training moved {moved} points; {sure}.")
    return HEAD + (" ".join(said) or "No row of this run was pre-trained so.")


def ablations(results: Results) -> str:
    """Table 5's rows: which differences other texts would show, and what one training of each can say."""
    found = results.scores[ABLATIONS].intervals
    if not found:
        return f"{HEAD}This run has no rows that are compared with another."
    here = {row: _of_texts(i) for row, i in found.items()}
    known = {row: i for row, i in here.items() if i["low"] is not None}
    sure = {row: i for row, i in known.items() if i["low"] > 0 or i["high"] < 0}
    named = ", ".join(
        f"{row} {i['delta']:+.1f} against {found[row]['against']}"
        for row, i in sorted(sure.items(), key=lambda x: -abs(x[1]["delta"]))
    )
    once = all(i.get("seeds") == 1 for i in found.values())
    text = f"{HEAD}Of {len(known)} differences, {len(sure)} would be seen with other texts of these tasks"
    text += f": {named}." if named else "."
    if not known:
        text = f"{HEAD}Nothing here says how far other texts would move any of these differences."
    if chance := _chance_of_one(len(known)):
        text += (
            f" If nothing mattered, about {chance} of {len(known)} intervals would still miss 0 by chance."
        )
    if once:
        text += (
            " Every row is one training. Another seed draws other batches and another start of LoRA, and its effect is "
            "in no interval here: read such a row as a question worth several seeds, not as an answer."
        )
    return text


def _chance_of_one(rows: int) -> str:
    """5 % of so many intervals, in words; "" for fewer than four, of which it is next to nothing."""
    return f"{0.05 * rows:.1f}" if rows >= 4 else ""


def passkey(rows: list[dict]) -> str:
    """Figure 5: where accuracy is more than chance, and which curves the intervals tell apart."""
    if not rows:
        return f"{HEAD}This run has no passkeys."
    frame, chance = pd.DataFrame(rows), 100 / rows[0]["candidates"]
    above = frame[frame["low"] > chance]
    text = (
        f"{HEAD}Of {len(frame)} points {len(above)} lie above chance ({chance:.0f} %) by more than the 95 % interval of "
        f"{rows[0]['queries']} queries"
    )
    text += f", the longest at {above['length'].max()} tokens. " if len(above) else ". "
    told = []
    for length, at in frame.groupby("length"):
        best, worst = at.loc[at["accuracy"].idxmax()], at.loc[at["accuracy"].idxmin()]
        if best["low"] > worst["high"]:
            told.append(
                f"at {length} tokens {best['variant']} ({best['accuracy']:.0f}) and {worst['variant']} ({worst['accuracy']:.0f})"
            )
    if told:
        text += f"Intervals that do not even touch: {'; '.join(told)}. "
    else:
        text += "At no length do the intervals of the best and the worst variant lie apart: their order may be noise. "
    wide = fmean(r["high"] - r["low"] for r in rows) / 2
    return text + f"An interval is ±{wide:.0f} points on average; a curve's steps of less say nothing."


def verdicts(entries: list[dict]) -> str:
    """The ledger: how much of the paper this run measured, and how much of that compares."""
    numbers = [e for e in entries if e["paper"] is not None]
    count = Counter(e["verdict"] for e in numbers)
    ours = [e for e in numbers if e["ours"] is not None]
    comparable = [e for e in ours if e["comparable"]]
    text = (
        f"{HEAD}Of {len(numbers)} published numbers this run has one of its own for {len(ours)}, and {len(comparable)} of "
        f"these were measured as the paper measured: {', '.join(f'{k} {count[k]}' for k in KINDS if count[k])}. "
    )
    if comparable:
        met = sum(e["verdict"] == "match" for e in comparable)
        return text + f"Of those that compare {met} are equal within the tolerance. "
    return (
        text
        + "Nothing here says whether the paper's numbers are right; it says whether its method works at this size."
    )


def by_tasks(rows: list[dict], chance: dict[str, float]) -> str:
    """A sentence to go on with, on single tasks: on how many the base is no better than chance, and where the trained model is not."""
    of = {
        s: {t: fmean(v) for t, v in by_task(r for r in rows if r["system"] == s).items()}
        for s in ("base", "trained")
    }
    if not of["trained"] or not chance:
        return "Chance is computed for tasks of the embedded suite alone."
    text, shared = "", [t for t in of["trained"] if t in chance]
    if of["base"]:
        lost = sum(of["base"].get(t, 0) <= chance[t] + NEAR for t in shared)
        text += f"On {lost} of {len(shared)} tasks the base is within {NEAR:.0f} points of chance or below. "
    low = [t for t in shared if of["trained"][t] <= chance[t] + NEAR]
    return text + (
        f"So is the trained model on {', '.join(low)}." if low else "The trained model is above it on all."
    )


def _name(system: str) -> str:
    if system == "static":
        return f"the {SYSTEM_NAMES[system]}"
    return {"base": "the base", "trained": "the trained model"}.get(system, SYSTEM_NAMES.get(system, system))
