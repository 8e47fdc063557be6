"""The dataset card: the README.md of a run or an export, with the header that dataset hubs read.

Header keys: https://huggingface.co/docs/hub/datasets-cards. Values are written as JSON, which is YAML.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import regex

from mga.expand.shard import ShardStats

Record = Mapping[str, Any]

_IDENTIFIER = regex.compile(r"[a-z0-9][a-z0-9.+-]*")
_LANGUAGE = regex.compile(r"[a-z]{2,3}")
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"),
    (1_000_000_000, "100M<n<1B"),
)
_METHOD = "https://arxiv.org/abs/2502.04235"


def run_card(record: Record, stats: ShardStats) -> str:
    """The card of a finished run; `record` is its run.json."""
    config, identity = record["config"], record["identity"]
    kept = stats.outcomes.get("kept", 0)
    growth = stats.kept_tokens / stats.source_tokens if stats.source_tokens else 0.0
    title = f"Genre-audience reformulations, run {record['run']}"
    return f"""{_header(title, config.get("license"), kept, config.get("language"), "kept/*.parquet")}
# {title}

{kept:,} texts that {identity["model"]} wrote from {stats.documents:,} documents
({stats.chunks:,} chunks, {config["pairs"]} pairs each, variant {config["variant"]}), made with
mga {record["versions"]["mga"]} on {record["created"]}.

## Figures

| | |
|---|---|
| tokens of the documents | {stats.source_tokens:,} |
| tokens kept | {stats.kept_tokens:,} ({growth:.2f} × the documents) |
| kept / dropped / failed | {" / ".join(f"{stats.outcomes.get(s, 0):,}" for s in ("kept", "dropped", "failed"))} |
| input rows that could not be used | {len(stats.problems):,} |
{_scores(stats)}
{_reasons(stats.reasons)}

{_origin([record], config.get("license"))}

{_columns("`raw_text` the document it was written from")}

{_limits(bool(stats.scores), config["judge"])}
"""


def export_card(
    rows: int, layout: str, runs: Sequence[Record], stages: Sequence[tuple[str, Record]], license_given: str | None
) -> str:
    """The card of an export of so many rows, in a layout (plain, mgacorpus). `runs` are the run.json of the runs that
    the rows come from, as far as they were found; `stages` what was done to them since, first to last, as name of the
    folder and stage.json."""
    title = "Genre-audience reformulations"
    licenses = {run["config"].get("license") for run in runs}
    chosen = license_given or (licenses.pop() if len(licenses) == 1 else None)
    languages = {run["config"].get("language") for run in runs}
    language = languages.pop() if len(languages) == 1 else None
    text = (
        _columns("`id` is the row's, `score` the judge's word, 1–5")
        if layout == "plain"
        else "Columns: `content_split` is the reformulation, `meta` tells its document (`docid`, `chunk_id`,\n"
        "`raw_text`), genre, audience and, in `meta_extra`, score, model and prompt."
    )
    judged = any(run["config"]["judge"] != "none" for run in runs)
    return f"""{_header(title, chosen, rows, language, "**/*.parquet")}
# {title}

{rows:,} synthetic texts, written by language models from documents for other genres and audiences.

{_origin(runs, chosen)}
{_stages(stages)}
{text}

{_limits(judged, runs[0]["config"]["judge"] if runs else "none")}
"""


def _header(title: str, license_given: str | None, rows: int, language: str | None, files: str) -> str:
    values: dict[str, Any] = {"pretty_name": title, **_license(license_given)}
    if language and _LANGUAGE.fullmatch(language):
        values["language"] = [language]
    values["task_categories"] = ["text-generation"]
    values["size_categories"] = [next((name for most, name in _SIZES if rows < most), "n>1B")]
    values["tags"] = ["synthetic", "genre-audience-reformulation"]
    values["configs"] = [{"config_name": "default", "data_files": files}]
    lines = (f"{name}: {orjson.dumps(value).decode()}" for name, value in values.items())
    return "---\n" + "\n".join(lines) + "\n---"


def _license(given: str | None) -> dict[str, str]:
    """Hubs know licences by lower-case identifiers; any other is named beside "other"."""
    if not given:
        return {"license": "unknown"}
    if _IDENTIFIER.fullmatch(given.lower()):
        return {"license": given.lower()}
    return {"license": "other", "license_name": given}


def _scores(stats: ShardStats) -> str:
    judging = stats.judging
    if not judging.asked:
        return "| judged | 0 |"
    counts = ", ".join(f"{n:,} × {score}" for score, n in sorted(stats.scores.items(), reverse=True))
    told = f" ({counts})" if counts else ""
    return (
        f"| judged, of those the judge was asked about | {judging.judged:,}{told} of {judging.asked:,} |\n"
        f"| acceptable | {judging.in_words()} |"
    )


def _reasons(reasons: Mapping[str, int]) -> str:
    rows = "\n".join(f"| {reason} | {count:,} |" for reason, count in reasons.items()) or "| – | 0 |"
    return f"\n| why not kept | texts |\n|---|---|\n{rows}"


def _origin(runs: Sequence[Record], license_given: str | None) -> str:
    """Where the texts come from: method, models, prompts, the documents and their licence."""
    told = license_given or "unknown: whoever made this has not said it (mga expand --license, mga export --license)"
    lines = [
        "## Where it comes from",
        "",
        f"Method: massive genre-audience reformulation ({_METHOD}), as mga carries it out.",
        f"Licence of the documents: {told}. The licence of the models may add conditions.",
    ]
    for run in runs:
        identity, config = run["identity"], run["config"]
        lines += [
            "",
            f"Run {run['run']}, {run['created']}, mga {run['versions']['mga']}:",
            "",
            "| | |",
            "|---|---|",
            f"| generator | {_cell(identity['model'])} |",
            f"| judge | {_cell(identity['judge_model'])}, {config['judge']}; least score {config['min_score']} |",
            *(f"| prompt: {task} | {_cell(name)} |" for task, name in identity["prompts"].items()),
            f"| input | {_names(config['input'])}; fingerprint {identity['input']} |",
            f"| variant, pairs, seed | {config['variant']}, {config['pairs']}, {config['seed']} |",
        ]
    if not runs:
        lines += ["", "The runs they come from were not at hand; the rows name them (`model`, `prompt`, `run`)."]
    return "\n".join([*lines, *_prompts(runs)])


def _prompts(runs: Sequence[Record]) -> list[str]:
    """Each prompt word for word, folded."""
    texts = {name: text for run in runs for name, text in run.get("prompt_texts", {}).items()}
    lines = ["", "The prompts, word for word, with names in braces where documents, pairs and texts were filled in:"]
    for name, text in texts.items():
        fence = "`" * max([3, *(len(found) + 1 for found in regex.findall("`+", text))])
        lines += ["", f"<details><summary>{_cell(name)}</summary>", "", f"{fence}text", text.strip(), fence]
        lines += ["", "</details>"]
    return lines if texts else []


def _stages(stages: Sequence[tuple[str, Record]]) -> str:
    if not stages:
        return ""
    rows = [
        f"| mga {stage['command']} ({_cell(name)}) | {stage['counts']['rows']:,} | {stage['counts']['kept']:,} |"
        for name, stage in stages
    ]
    return "\n".join(["", "Then, first to last:", "", "| | rows read | kept |", "|---|---|---|", *rows, ""])


def _columns(more: str) -> str:
    return (
        f"Columns: `text` is the reformulation, {more}, `source_id` and `chunk_id`\n"
        "lead back to the input; `genre` and `audience` are whom it was written for, `model` and `prompt` what made it."
    )


def _limits(judged: bool, judge: str | float) -> str:
    how = "No judge has compared them with their documents."
    if judged:
        share = "all of them" if judge == "all" else f"a share of {judge} of them"
        how = f"A language model has compared {share} with\ntheir documents; its scores are worth as much as it is."
    return f"""## Known limits

The texts are synthetic: they can contain errors that their documents do not have, and they hold what their documents
hold, personal data and bias included. A text may leave out, add and reorder; it does not stand for its document.
{how}"""


def _names(given: Sequence[str]) -> str:
    """The last part of each path: where it lay on a machine is nobody's business."""
    return ", ".join(_cell(Path(name).name or name) for name in given)


def _cell(text: str) -> str:
    """A name within a cell of a Markdown table."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())
