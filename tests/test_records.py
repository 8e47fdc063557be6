"""Identity: the same input has the same ids everywhere, and no two inputs share one."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mga.records import Document, Drop, Outcome, Pair, Problem, Reformulation, Usage, Verdict, content_id

PARTS = st.lists(st.text(st.characters(exclude_categories=()), max_size=8), max_size=4)


def test_an_id_is_the_same_on_every_machine() -> None:
    assert content_id("a", 1) == "5ff18109aef1718dab587f3db2a49ae0"
    assert Document("s", "text", "0:0").key == content_id("0:0", "s", 0, "text")


@given(PARTS, PARTS)
def test_different_parts_have_different_ids(a: list[str], b: list[str]) -> None:
    assert (content_id(*a) == content_id(*b)) == (a == b)


def test_half_of_a_surrogate_pair_has_an_id_too() -> None:
    assert content_id("\ud800") != content_id("\udfff")


def test_rows_with_the_same_id_and_text_have_different_keys() -> None:
    keys = {Document("same", "same", position).key for position in ("0:0", "0:1", "1:0")}
    assert len(keys) == 3


def test_a_key_depends_on_text_id_and_chunk_but_not_on_what_is_counted() -> None:
    document = Document("s", "text", "0:0")
    others = [replace(document, source_id="t"), replace(document, text="u"), replace(document, chunk=1)]
    assert len({document.key, *(other.key for other in others)}) == 4
    assert replace(document, n_tokens=7, chunks=3).key == document.key


def test_a_chunk_is_named_after_its_document() -> None:
    assert Document("s", "text", "0:0", chunk=2, chunks=3).chunk_id == "s#2"


def test_outcomes_of_a_document_have_an_id_for_every_slot_whatever_became_of_them(orchard: Document) -> None:
    outcomes = [Outcome(orchard, slot, "kept") for slot in range(5)]
    assert len({outcome.id for outcome in outcomes}) == 5
    assert outcomes[0].dropped(Drop("too_short")).id == outcomes[0].id


def test_a_dropped_outcome_keeps_the_pair_the_verdict_and_what_was_written(orchard: Document) -> None:
    written = Reformulation("text", 9, "head ", " tail")
    kept = Outcome(orchard, 0, "kept", Pair("fable", "pilots"), written, Verdict(2, "far off"))
    dropped = kept.dropped(Drop("low_score", "score 2 is below 3"))
    assert (dropped.status, dropped.reason, dropped.detail) == ("dropped", "low_score", "score 2 is below 3")
    assert (dropped.pair, dropped.reformulation, dropped.verdict) == (kept.pair, written, kept.verdict)


def test_a_drop_with_a_text_leaves_that_text(orchard: Document) -> None:
    dropped = Outcome(orchard, 0, "kept").dropped(Drop("cut_off", written=Reformulation("half a sent", 3)))
    assert dropped.reformulation is not None
    assert dropped.reformulation.text == "half a sent"


def test_a_problem_says_where_what_and_what_to_do_in_one_line() -> None:
    assert str(Problem("a.jsonl", 1233, "no_text", "there is no text", "add it")) == (
        "a.jsonl, row 1,234: there is no text (add it)"
    )
    assert str(Problem("a.jsonl", None, "empty_file", "the file is empty")) == "a.jsonl: the file is empty"


def test_usage_adds_up_field_by_field() -> None:
    assert Usage(1, 20, 5, 7) + Usage(2, 30, 6, 8) == Usage(3, 50, 11, 15)
