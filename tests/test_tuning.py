"""Settings of llama.cpp: found by trying, saved for this model on this machine, used by later runs."""

import asyncio
import os
from functools import partial
from pathlib import Path

import model_folders
import pytest

from mga.cli.main import main
from mga.engines.engine import Request
from mga.engines.llamacpp import settings as llamacpp_settings
from mga.engines.llamacpp import tune as tune_module
from mga.engines.llamacpp.engine import LlamaCppEngine
from mga.engines.llamacpp.settings import LlamaCppSettings, default_settings, save_settings, saved_settings
from mga.engines.llamacpp.tune import Tuned, tune
from mga.errors import InputError
from mga.expand.tuning_work import rewrite_requests

FASTER = {
    "speculation": {"ngram-simple": 1.4},
    "sequences": {4: 0.7, 16: 1.2},
    "batch": {64: 1.03},
    "cache": {"q8_0": 0},
}


async def no_work(_engine: object, _count: int) -> list[Request]:
    raise AssertionError("nothing is asked: the speeds are those of FASTER")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the place of a model, and an empty cache."""
    monkeypatch.setenv("MGA_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "some.gguf"
    path.write_bytes(b"GGUF")
    return path


def tuned(model: Path, monkeypatch: pytest.MonkeyPatch, confirmed: bool = True) -> tuple[Tuned, list[str]]:
    """Tune a machine on which the speeds of FASTER hold; `confirmed`: in the end as well."""
    said: list[str] = []
    asked = 0

    def rate(_model: str, settings: LlamaCppSettings, _work: object, count: int, best: float | None) -> float | None:
        nonlocal asked
        asked += best is None
        speed = 2.0
        for name, value in settings:
            speed *= FASTER.get(name, {}).get(value, 1.0)  # type: ignore[call-overload]
        if asked > 1 and not confirmed:  # the measurements at the end
            return 2.0
        return None if best is not None and speed < 0.8 * best else speed

    monkeypatch.setattr(tune_module, "_rate", rate)
    return tune(f"llamacpp:{model}", no_work, said.append), said


def test_the_fastest_is_found_saved_and_used(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, said = tuned(model, monkeypatch)
    assert (found.settings.speculation, found.settings.sequences) == ("ngram-simple", 16)
    assert found.settings.batch == default_settings().batch, "three percent are noise"
    assert found.settings.cache == "f16"
    assert found.after / found.before == pytest.approx(1.4 * 1.2)
    assert saved_settings(model) == found.settings
    assert "cache q8_0: slower" in said
    again, _ = tuned(model, monkeypatch)
    assert again.file is None, "the second time begins with what the first has found"


def test_what_is_not_confirmed_is_not_saved(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = tuned(model, monkeypatch, confirmed=False)
    assert found.file is None
    assert saved_settings(model) is None


@pytest.mark.parametrize("content", [b"", b"not JSON", b"[]", b'{"%s": {"sequences": 0}}', b'{"%s": {"unknown": 1}}'])
def test_a_damaged_file_is_as_none(model: Path, content: bytes) -> None:
    file = save_settings(model, default_settings())
    assert saved_settings(model) is not None
    file.write_bytes(content.replace(b"%s", llamacpp_settings._key(model).encode()))
    assert saved_settings(model) is None
    save_settings(model, LlamaCppSettings(sequences=3))
    assert saved_settings(model) == LlamaCppSettings(sequences=3)


def test_settings_are_of_one_model_on_one_machine(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_settings(model, LlamaCppSettings(sequences=3))
    other = model.with_name("other.gguf")
    other.write_bytes(b"GGUF")
    assert saved_settings(other) is None
    monkeypatch.setattr(os, "cpu_count", lambda: 96)
    assert saved_settings(model) is None


@pytest.mark.parametrize("uri", ["http://host:8000/v1#tiny", "scripted:", "llamacpp:", "llamacpp:/no/such/file.gguf"])
def test_only_a_model_of_llamacpp_is_tuned(uri: str) -> None:
    with pytest.raises(InputError):
        tune(uri, no_work, print)


def test_the_command(model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["mga", "tune-engine", f"llamacpp:{model}"])
    monkeypatch.setattr(tune_module, "_rate", lambda _m, s, *_: 3.0 if s.speculation == "ngram-mod" else 2.0)
    with pytest.raises(SystemExit, match="0"):
        main()
    said = capsys.readouterr()
    assert said.out.startswith("1.50 × as fast as before: ")
    assert str(model.parent / "cache") in said.out


@pytest.mark.model
@pytest.mark.parametrize(
    "settings",
    [
        {"sequences": 2, "batch": 64, "cache": "q8_0", "flash_attention": "on", "speculation": "ngram-simple"},
        {"sequences": 3, "threads": 1, "flash_attention": "off", "speculation": "ngram-mod"},
    ],
)
def test_the_real_engine_runs_with_all_settings(settings: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    model_folders.embedded_model()
    monkeypatch.setattr(tune_module, "REWRITE_TOKENS", 8)
    wanted = LlamaCppSettings.model_validate(settings)
    rate = tune_module._rate("smollm2-135m", wanted, partial(rewrite_requests, uri="llamacpp:smollm2-135m"), 4, None)
    assert rate is not None and rate > 0

    async def start() -> LlamaCppSettings | None:
        engine = LlamaCppEngine("smollm2-135m", 1, wanted)
        try:
            await engine.start()
            return engine.settings
        finally:
            await engine.close()

    assert asyncio.run(start()) == wanted.model_copy(update={"sequences": 1}), "a number that is given wins"
