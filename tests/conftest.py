"""What several test files share: one ordinary document, a teacher, and reading fast property tests. Long files begin
first, so that no process is left with one of them at the end."""

import os
from collections.abc import Iterator
from tempfile import mkdtemp

import pytest
from hypothesis import settings
from teacher import Serving

from mga.records import Document

settings.register_profile("mga", max_examples=60, deadline=None, derandomize=True)
settings.load_profile("mga")

LONG = (
    "test_embedded_model",
    "test_ray",
    "test_prompt_comparison",
    "test_object_store",
    "test_chaos",
    "test_crash",
    "test_tuning",
)
LONG += ("test_transformers_engine", "test_generations", "test_tool_train", "test_pretrain", "test_study")

# What runs remember of their engines' speed stays out of the user's folders; commands that tests start inherit it.
os.environ["XDG_STATE_HOME"] = mkdtemp(prefix="mga-state-")

ORCHARD = (
    "The orchard behind the mill was planted in 1862 by Martha Greaves, who grafted forty kinds of apple onto quince "
    "rootstock. Frost killed the early blossom in three springs out of ten, so she lit smudge pots between the rows "
    "at night. In good years the harvest filled ninety barrels, and the cider press ran until November."
)


@pytest.fixture
def orchard() -> Document:
    """A short English document."""
    return Document("orchard", ORCHARD, "0:0", n_tokens=80)


@pytest.fixture(scope="session")
def teacher() -> Iterator[str]:
    """The engine of a teacher whose answers can be learned (tests/teacher.py)."""
    with Serving() as address:
        yield address


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, all else as it was."""
    items.sort(key=lambda item: item.path.stem not in LONG)
