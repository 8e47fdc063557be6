"""What the figures of `collapse.compare` say, in plain words: each check with its value, interval and threshold.

A model has collapsed when it has lost the tails of what it learned from (Shumailov et al. 2024): rare tokens become
improbable, the predictions surer than they are right, its samples alike. A higher loss on real text alone is none of
this: a model trained on other text predicts other text (paper, section on collapse). The loss is told and is no sign.
"""

from collections.abc import Iterator
from typing import Any

RARE_EXCESS = 0.5
"""Nats by which rare tokens (less than 1 of 1,000) lose more than the others."""

OVERCONFIDENCE = 0.03
"""Growth of confidence less accuracy. Healthy models stay within one or two hundredths of each other."""

ENTROPY_FALL = 0.15
"""Share by which the predictions' entropy falls while the loss does not."""

TAIL_COVERAGE = 0.8
"""Rare n-grams of the real continuations in the model's samples, beside the real-trained model's."""

DIVERSITY = 0.8
"""Distinct pairs of words or Vendi score of the model's samples, beside the real-trained model's."""

EXACT_RATE = 0.01
"""Growth of the share of spans that are continued exactly: of a hundred spans one more is known by heart."""

LATE_POINTS, LATE_P = 2.0, 0.05

FEW_DOCUMENTS = 30


def verdict_of(figures: dict[str, Any]) -> dict[str, Any]:
    """The verdict: headline, checks (name, group, sign, value, low, high, threshold, text) and caveats.

    `sign` is True for a sign of collapse, False for none, null for what is only told.
    """
    checks = [check for group in figures["groups"] for check in _of_group(group)]
    checks += [*_of_memorisation(figures["memorisation"]), *_of_texts(figures["texts"])]
    return {"headline": _headline(checks), "checks": checks, "caveats": list(_caveats(figures))}


def _headline(checks: list[dict[str, Any]]) -> str:
    tested = [check for check in checks if check["sign"] is not None]
    signs = [check for check in tested if check["sign"]]
    if not tested:
        return "Nothing could be tested: there is too little text."
    kinds = sorted({check["name"].replace("_", " ") for check in signs})
    of = f"{len(signs)} of {len(tested)} checks"
    if not signs:
        return f"No sign of collapse in {len(tested)} checks."
    if len(kinds) == 1:
        return (
            f"One sign of collapse ({kinds[0]}, {of}): look at it before you trust the model; alone it proves nothing."
        )
    return f"Signs of collapse: {', '.join(kinds)} ({of})."


def _check(
    name: str, group: str, sign: bool | None, value: float | None, threshold: float | None, text: str, **interval: Any
) -> dict[str, Any]:
    bounds = {"low": interval.get("low"), "high": interval.get("high")}
    return {"name": name, "group": group, "sign": sign, "value": value, "threshold": threshold, "text": text, **bounds}


def _of_group(group: dict[str, Any]) -> Iterator[dict[str, Any]]:
    name, kind = group["name"], "synthetic" if group["synthetic"] else "real"
    difference = group["loss"]["difference"]
    value = difference["value"]
    yield _check(
        "loss",
        name,
        None,
        value,
        None,
        f"On {kind} text ({name}) the synthetic-trained model's loss is {abs(value):.3f} nats per token "
        f"{'higher' if value > 0 else 'lower'} in the mean of {group['documents']:,} documents{_interval(difference)}. "
        "By itself that is no sign of collapse.",
        low=difference["low"],
        high=difference["high"],
    )
    yield from _of_positions(group)
    yield from _of_tails(group)
    yield from _of_certainty(group)
    yield from _of_continuations(group)


def _of_positions(group: dict[str, Any]) -> Iterator[dict[str, Any]]:
    found = group["positions"][0]
    if found["later"] is None or found["found"] < FEW_DOCUMENTS:
        return
    late = found["p_later"] < LATE_P and found["later"] > LATE_POINTS
    where = "late" if late else "early" if found["p_different"] < LATE_P and found["later"] < -LATE_POINTS else ""
    what = (
        f"sit {abs(found['later']):.1f} points {'later' if where == 'late' else 'earlier'} than chance puts them"
        if where
        else f"sit where chance puts them ({found['later']:+.1f} points)"
    )
    meaning = {
        "late": " The models differ in what they do with a long context, not in the language.",
        "early": " The models differ most before they have seen much of the text.",
        "": "",
    }[where]
    low, high = found["later_low"], found["later_high"]
    between = "" if low is None else f"95% {low:+.1f} to {high:+.1f}, "
    yield _check(
        "position",
        group["name"],
        None,
        found["later"],
        LATE_POINTS,
        f"In {group['name']} {found['found']:,} of {found['documents']:,} documents have an anomaly; the first ones "
        f"{what} ({between}p = {found['p_later']:.3f} for later)."
        f"{meaning}",
        low=low,
        high=high,
    )


def _of_tails(group: dict[str, Any]) -> Iterator[dict[str, Any]]:
    excess = group["rare_excess"]
    if excess is None or excess["low"] is None or group["synthetic"]:
        return
    low, high = excess["low"], excess["high"]
    yield _check(
        "lost_tail",
        group["name"],
        low > RARE_EXCESS,
        excess["value"],
        RARE_EXCESS,
        f"In {group['name']} rare tokens lose {excess['value']:+.3f} nats more than frequent ones "
        f"(95% {low:+.3f} to {high:+.3f}; a sign above {RARE_EXCESS}).",
        low=low,
        high=high,
    )


def _of_certainty(group: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if group["synthetic"]:
        return
    real, synt = group["calibration"]["real"], group["calibration"]["synt"]
    growth = synt["overconfidence"] - real["overconfidence"]
    yield _check(
        "overconfidence",
        group["name"],
        growth > OVERCONFIDENCE,
        growth,
        OVERCONFIDENCE,
        f"In {group['name']} confidence exceeds accuracy by {synt['overconfidence']:+.3f} (real-trained: "
        f"{real['overconfidence']:+.3f}); calibration error {synt['ece']:.3f} against {real['ece']:.3f}. "
        f"A sign when it grows by more than {OVERCONFIDENCE}.",
    )
    fall = 1 - synt["entropy"] / real["entropy"] if real["entropy"] else 0.0
    worse = group["loss"]["synt"] >= group["loss"]["real"]
    yield _check(
        "falling_entropy",
        group["name"],
        fall > ENTROPY_FALL and worse,
        fall,
        ENTROPY_FALL,
        f"In {group['name']} the predictions' entropy is {synt['entropy']:.3f} nats against {real['entropy']:.3f} "
        f"({-fall:+.0%}). A sign when it falls by more than {ENTROPY_FALL:.0%} without a lower loss.",
    )


def _of_continuations(group: dict[str, Any]) -> Iterator[dict[str, Any]]:
    real, synt = group["continuation"]["real"], group["continuation"]["synt"]
    if synt["rate"] is None:
        return
    yield _check(
        "exact_continuation",
        group["name"],
        None,
        synt["rate"] - real["rate"],
        EXACT_RATE,
        f"In {group['name']} the synthetic-trained model continues {synt['exact']:,} of {synt['spans']:,} spans "
        f"exactly, the real-trained one {real['exact']:,} ({synt['continuation']} tokens after {synt['prefix']}).",
    )


def _of_memorisation(found: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    for who, name in (("real", "real-trained"), ("synt", "synthetic-trained")):
        if found is not None:
            one = found[who]
            yield _check(
                "memorisation",
                who,
                None,
                one["auc"],
                None,
                f"The {name} model's loss is {one['difference']['value']:+.3f} nats higher on unseen documents than on "
                f"seen ones{_interval(one['difference'])}; by it seen and unseen can be told apart with AUC "
                f"{one['auc']:.2f} (0.5: not at all).",
                low=one["difference"]["low"],
                high=one["difference"]["high"],
            )


def _of_texts(texts: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    if texts is None:
        return
    real, synt = texts["real"], texts["synt"]
    for key, name, what, least in (
        ("distinct_2", "less_varied_texts", "different pairs of words", DIVERSITY),
        ("vendi", "alike_texts", "Vendi score", DIVERSITY),
        ("tail_coverage", "lost_tail_in_texts", "coverage of the real text's rare words", TAIL_COVERAGE),
    ):
        if not real[key] or synt[key] is None:
            continue
        ratio = synt[key] / real[key]
        yield _check(
            name,
            "samples",
            ratio < least,
            ratio,
            least,
            f"The synthetic-trained model's samples have {ratio:.2f} of the real-trained one's {what} "
            f"({synt[key]:.3g} against {real[key]:.3g}; a sign below {least}).",
        )


def _caveats(figures: dict[str, Any]) -> Iterator[str]:
    for group in figures["groups"]:
        if group["documents"] < FEW_DOCUMENTS:
            yield f"{group['name']} has {group['documents']:,} documents: intervals are rough below {FEW_DOCUMENTS}."
        if group["too_short"]:
            yield (
                f"{group['too_short']:,} documents of {group['name']} have fewer than "
                f"{figures['settings']['least_tokens']} tokens and are left out of the histograms."
            )
    kinds = {group["synthetic"] for group in figures["groups"]}
    if kinds == {True}:
        yield "No real text was compared: tails and calibration were not tested."
    if kinds == {False}:
        yield "No synthetic text was compared: whether a higher loss is a shift to other text is inconclusive."
    if figures["texts"] is None:
        yield "The models' samples were not compared (mga sample, then --real-samples and --synt-samples)."
    yield "Thresholds come from small models (docs/collapse.md); compare a second healthy pair if you can."


def _interval(estimate: dict[str, Any]) -> str:
    return "" if estimate["low"] is None else f" (95% {estimate['low']:+.3f} to {estimate['high']:+.3f})"
