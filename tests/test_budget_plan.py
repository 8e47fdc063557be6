"""Data budgets: the paper's tables come out of their recipes, and what does not add up is refused."""

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from mga.cli.main import app
from mga.errors import InputError
from mga.mixture.amounts import amount, shown
from mga.mixture.plan import plan, purchases
from mga.mixture.recipe import Strategy, load_recipe, shipped_recipes
from mga.mixture.repetition import effective_tokens

Printed = dict[str, tuple[str | None, str | None, str | None]]
"""Of each source: weight in %, unique tokens in B, epochs, digit for digit as the paper prints them."""

FINEWEB, COSMOPEDIA, PYTHON, MATH = "fineweb-edu-dedup", "cosmopedia-v2", "python-edu", "open-web-math"
OTHERS: Printed = {COSMOPEDIA: ("11.65", "28", "4.15"), PYTHON: ("1.66", "4", "4.15"), MATH: ("5.80", "14", "4.15")}
TABLES: list[tuple[str, str | None, Printed]] = [
    ("paper-main-baseline", None, {FINEWEB: ("80.89", "195", "4.15"), **OTHERS}),
    # 770 is left out: see test_the_one_printed_number_that_does_not_follow.
    ("paper-main-expansion", None, {FINEWEB: ("16.29", "195", "0.84"), "mga": ("64.59", None, "0.84"), **OTHERS}),
    ("paper-main-only", None, {"mga": ("80.89", None, None), **{k: (w, u, None) for k, (w, u, _) in OTHERS.items()}}),
    ("paper-entire-set", "repeat", {FINEWEB: (None, "50", "10")}),
    ("paper-entire-set", "collect-more", {FINEWEB: (None, "195", "2.56")}),
    ("paper-entire-set", "expand", {FINEWEB: (None, "50", "2"), "mga": (None, "200", "2")}),
    ("paper-subset", "repeat", {FINEWEB: (None, "50", "1.4"), "fineweb-random": (None, "450", "1.4")}),
    ("paper-subset", "upsample", {FINEWEB: (None, "50", "5"), "fineweb-random": (None, "450", "1")}),
    (
        "paper-subset",
        "expand",
        {FINEWEB: (None, "50", "1"), "mga": (None, "200", "1"), "fineweb-random": (None, "450", "1")},
    ),
    ("paper-styles", None, {"style": (None, "28", "10.7")}),
]


def as_printed(value: float, like: str) -> str:
    """A number with as many digits behind the point as another."""
    return str(Decimal(value).quantize(Decimal(like)))


@pytest.mark.parametrize(("recipe", "strategy", "printed"), TABLES)
def test_the_papers_tables_come_out_digit_for_digit(recipe: str, strategy: str | None, printed: Printed) -> None:
    shares = {share.name: share for share in plan(load_recipe(recipe, {"strategy": strategy})).shares}
    assert shares.keys() == printed.keys()
    for name, (weight, unique, epochs) in printed.items():
        for value, like in (
            (shares[name].weight * 100, weight),
            (shares[name].unique / 1e9, unique),
            (shares[name].epochs, epochs),
        ):
            assert like is None or as_printed(value, like) == like, f"{name} of {recipe}"


def test_the_one_printed_number_that_does_not_follow() -> None:
    """The paper prints 770B for MGACorpus. With it the weights would be 16.34 and 64.55, not 16.29 and 64.59; the
    recipe has the 773B that its weights need, which is 770 to two digits."""
    recipe = load_recipe("paper-main-expansion")
    mga = next(source for source in recipe.source if source.name == "mga")
    assert mga.unique is not None
    assert round(mga.unique / 1e9, -1) == 770
    as_it_says = {share.name: share for share in plan(recipe, {"mga": 770e9}).shares}
    assert as_printed(as_it_says["mga"].weight * 100, "0.01") == "64.55"


def test_every_shipped_recipe_is_in_the_tables() -> None:
    assert set(shipped_recipes()) == {recipe for recipe, _, _ in TABLES}


def test_repetition_is_worth_what_the_law_says() -> None:
    # Four epochs are nearly as good as new data, and no repetition is worth more than 1 + R* times the data.
    assert effective_tokens(100, 4) / 400 == pytest.approx(0.931, abs=0.001)
    assert effective_tokens(100, 10_000) == pytest.approx(100 * (1 + 15.387756))
    assert effective_tokens(100, 0.5) == 50


def test_repetition_that_eats_the_budget_is_warned_of_and_an_expansion_priced() -> None:
    repeated = plan(load_recipe("paper-entire-set", {"strategy": "repeat"}))
    assert repeated.warnings() == ["fineweb-edu-dedup is seen 10 times: its 500B tokens are worth 390.7B (78%)."]
    (bought,) = purchases(repeated, 4)
    assert (bought.before, bought.after) == (10, 2)
    expanded = plan(load_recipe("paper-entire-set"))
    assert bought.gained == pytest.approx(expanded.effective - repeated.effective)
    assert bought.gained_at_least == pytest.approx(expanded.discounted[0] - repeated.effective)
    assert expanded.warnings() == []


def test_rewrites_are_discounted_by_what_is_known_of_them() -> None:
    def planned(discount: float | None) -> tuple[float, float, float]:
        sources = [{"name": "a", "unique": 100}, {"name": "r", "unique": 300, "expands": "a"}]
        sources[1] |= {} if discount is None else {"discount": discount}
        found = plan(load_recipe("paper-styles", {"budget": 400, "strategy": "expand", "source": sources}))
        return (found.effective, *found.discounted)

    assert planned(0) == (400, 400, 400)
    assert planned(0.25) == (400, 325, 325)
    assert planned(1) == (400, 100, 100)
    # 32 rewrites of a text gave 1.48 times the data efficiency: 0.48 / 32 of new text each. The other end: as much.
    assert planned(None) == pytest.approx((400, 100 + 300 * 0.015, 400))


def test_what_repeats_is_discounted_after_the_law_of_repetition() -> None:
    sources = [{"name": "a", "unique": 100}, {"name": "r", "unique": 100, "expands": "a", "discount": 0.5}]
    found = plan(load_recipe("paper-styles", {"budget": 800, "strategy": "expand", "source": sources}))
    assert [share.epochs for share in found.shares] == [4, 4]
    assert found.discounted == pytest.approx((1.5 * effective_tokens(100, 4),) * 2)


def written(folder: Path, text: str) -> str:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


TWO = 'budget = 100\nstrategy = "weights"\n[[source]]\nname = "a"\nunique = 40\n{}\n'
TWO += '[[source]]\nname = "b"\nunique = 30\n{}\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (TWO.format("weight = 0.5", "weight = 0.4"), "add up to 90 tokens (90.00% of the budget of 100)"),
        (TWO.format("weight = 50", "epochs = 1"), "add up to 80 tokens (80.00% of the budget of 100)"),
        (TWO.format("weight = 0.5", ""), "either `weight` or `epochs`"),
        (TWO.format("weight = 0.5", "wieght = 0.5"), "'source.b.wieght' in "),
        ('budget = "12 Q"\n[[source]]\nname = "a"\n', "is no amount of tokens"),
        ("budget = 1\n", "'source'"),
        ('budget = 9\n[[source]]\nname = "a"\n', "Source a has no `unique`; count: mga budget count"),
        ('budget = 9\n[[source]]\nname = "a"\nexpands = "b"\n', "a expands 'b', which is no original"),
        ('budget = 9\n[[source]]\nname = "a"\ndiscount = 0.5\n', "a has a discount, which is for rewrites"),
        (TWO.format("weight = 1", "weight = 2"), "add up to 300 tokens (300.00% of the budget of 100)"),
        (TWO.format("weight = 1", "weight = 2"), "all make 1 together, or 100 as percent"),
        (TWO.format("weight = 0.0005", "epochs = 3.332"), "may be shares or percent"),
        ('budget = 9\nstrategy = "upsample"\n[[source]]\nname = "a"\nunique = 3\n', "upsample = true"),
        ("budget = [", "not valid TOML"),
    ],
)
def test_what_does_not_add_up_is_refused_in_a_sentence(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InputError) as refused:
        plan(load_recipe(written(tmp_path, text)))
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("a", "b", "tokens"),
    [
        ("weight = 0.7", "epochs = 1", [70, 30]),
        ("weight = 70", "epochs = 1", [70, 30]),
        ("weight = 1", "epochs = 3.3", [1, 99]),  # one percent, since the whole would leave nothing
        ("weight = 0.5", "weight = 0.5", [50, 50]),
        ("weight = 99.5", "weight = 0.5", [99.5, 0.5]),
    ],
)
def test_weights_and_epochs_go_together_when_they_add_up(tmp_path: Path, a: str, b: str, tokens: list[float]) -> None:
    recipe = load_recipe(written(tmp_path, TWO.format(a, b)))
    assert [share.tokens for share in plan(recipe).shares] == pytest.approx(tokens)
    assert all(share.weight == pytest.approx(one / 100) for share, one in zip(plan(recipe).shares, tokens, strict=True))


def test_a_lone_weight_of_one_is_the_whole(tmp_path: Path) -> None:
    text = 'budget = 100\nstrategy = "weights"\n[[source]]\nname = "a"\nunique = 40\nweight = {}\n'
    for weight in ("1", "100"):
        assert [share.tokens for share in plan(load_recipe(written(tmp_path, text.format(weight)))).shares] == [100]


@given(
    sizes=st.lists(st.integers(1, 10**12), min_size=2, max_size=6),
    budget=st.integers(1, 10**13),
    strategy=st.sampled_from([Strategy.REPEAT, Strategy.EXPAND, Strategy.ONLY_SYNTHETIC]),
    expansion=st.sampled_from(["within", "beside"]),
)
def test_every_plan_spends_its_budget_exactly(
    sizes: list[int], budget: int, strategy: Strategy, expansion: str
) -> None:
    sources = [{"name": f"s{i}", "unique": size} for i, size in enumerate(sizes[1:])]
    sources.append({"name": "rewrites", "unique": sizes[0], "expands": "s0"})
    changes = {"budget": budget, "strategy": strategy, "expansion": expansion, "source": sources}
    found = plan(load_recipe("paper-styles", changes))
    assert sum(share.tokens for share in found.shares) == pytest.approx(budget)
    assert sum(share.weight for share in found.shares) == pytest.approx(1)
    assert 0 < found.effective <= budget * (1 + 1e-9)


def test_amounts_are_read_and_shown() -> None:
    assert [amount(text) for text in ("195B", "1.5t", "8_192", "20 M")] == [195e9, 1.5e12, 8192, 20e6]
    assert [shown(tokens) for tokens in (194.94e9, 1e12, 999, 20_480)] == ["194.9B", "1T", "999", "20.48K"]


def test_the_command_tells_the_plan() -> None:
    done = CliRunner().invoke(app, ["budget", "plan", "paper-main-expansion"])
    assert done.exit_code == 0
    assert "64.59%" in done.output
    assert "4.15" in done.output
    assert "9.689B … 645.9B" in done.output  # 64.59% of the budget: 1.5% of it, or all
    refused = CliRunner().invoke(app, ["budget", "plan", "paper-main"])
    assert isinstance(refused.exception, InputError)
    assert "did you mean paper-main-" in str(refused.exception)
