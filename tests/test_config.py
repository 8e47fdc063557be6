"""Settings: strict, explained in a sentence, and saved without secrets."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from mga.config import ExpandConfig, differences, load_config
from mga.errors import InputError

SCRIPTED = {"engine": "scripted:"}


def toml(folder: Path, text: str) -> Path:
    path = folder / "mga.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "name", "hint"),
    [
        ("pear = 3", "'pear'", "did you mean 'pairs'?"),
        ("[pairing]\natempts = 3", "'pairing.atempts'", "did you mean 'attempts'?"),
        ("[judging.sampling]\ntemprature = 1", "'judging.sampling.temprature'", "did you mean 'temperature'?"),
        ("[cleaning]\nzebra = 1", "'cleaning.zebra'", "known are: min_words, max_repeated"),
    ],
)
def test_an_unknown_setting_is_named_with_the_nearest_known_one(
    tmp_path: Path, text: str, name: str, hint: str
) -> None:
    path = toml(tmp_path, text)
    with pytest.raises(InputError) as refused:
        load_config(path, SCRIPTED)
    assert str(refused.value).startswith(f"Unknown setting {name} in {path}; {hint}")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("pairs = 0", "'pairs'"),
        ("pairs = 'five'", "'pairs'"),
        ("pairs = 33", "'pairs'"),
        ("min_score = 6", "'min_score'"),
        ("judge = 1.5", "'judge'"),
        ("judge = 'some'", "'judge'"),
        ("pairing = 3", "'pairing'"),
        ("limit = 0", "'limit'"),
        ("input = [1]", "'input.0'"),
        ("[cleaning]\nmax_copied = 2", "'cleaning.max_copied'"),
        ("[rewriting.sampling]\ntop_p = 0", "'rewriting.sampling.top_p'"),
    ],
)
def test_a_wrong_value_is_named_with_its_file_in_one_line(tmp_path: Path, text: str, name: str) -> None:
    path = toml(tmp_path, text)
    with pytest.raises(InputError) as refused:
        load_config(path, SCRIPTED)
    assert str(refused.value).startswith(f"Setting {name} in {path}: ")
    assert "given:" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_no_toml_is_refused_with_the_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mga\.toml is not valid TOML: .*line 2"):
        load_config(toml(tmp_path, "pairs = 3\nvariant = strict"), {})


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mga.toml"
    path.write_bytes("language = 'Français'".encode("latin-1"))
    with pytest.raises(InputError, match="is not valid TOML"):
        load_config(path, {})


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot read the config"):
        load_config(tmp_path / "none.toml", {})


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    path = toml(tmp_path, "pairs = 2\nseed = 7\n[pairing]\nattempts = 4\nseeds = false")
    config = load_config(path, SCRIPTED | {"pairs": 3, "variant": None, "pairing": {"seeds": True}})
    assert (config.pairs, config.seed, config.variant) == (3, 7, "base")
    assert (config.pairing.attempts, config.pairing.seeds) == (4, True)


def test_a_flag_that_was_not_given_changes_nothing() -> None:
    nothing = {"pairs": None, "input": None, "pairing": {"seeds": None}}
    assert load_config(None, SCRIPTED | nothing) == load_config(None, SCRIPTED)


def test_false_and_nought_are_given_values(tmp_path: Path) -> None:
    path = toml(tmp_path, "judge = 0.5\nseed = 4\n[pairing]\nseeds = true")
    config = load_config(path, SCRIPTED | {"seed": 0, "judge": 0.0, "pairing": {"seeds": False}})
    assert (config.seed, config.judge, config.pairing.seeds) == (0, 0.0, False)


def test_one_input_may_be_written_without_a_list(tmp_path: Path) -> None:
    assert load_config(toml(tmp_path, "input = 'a.jsonl'"), SCRIPTED).input == ("a.jsonl",)


def test_settings_cannot_be_changed_afterwards() -> None:
    config = load_config(None, SCRIPTED)
    with pytest.raises(ValidationError, match="frozen"):
        config.pairs = 3  # type: ignore[misc]


def test_what_is_saved_can_be_loaded_again() -> None:
    config = load_config(None, SCRIPTED | {"judge": 0.25, "input": ["a", "b"], "pairing": {"sampling": {"top_p": 0.5}}})
    assert ExpandConfig.model_validate(config.public()) == config


@pytest.mark.parametrize("name", ["engine", "judge_engine", "input"])
def test_user_name_and_password_are_in_nothing_that_is_saved(name: str) -> None:
    uri = "https://alice:s3cret@host.example:8443/v1#model"
    config = load_config(None, SCRIPTED | {name: [uri] if name == "input" else uri})
    saved = f"{config.public()} {config.deciding()}"
    assert "alice" not in saved
    assert "s3cret" not in saved
    assert "host.example:8443/v1#model" in str(config.public())


def test_user_name_and_password_are_in_no_message_about_a_wrong_value() -> None:
    with pytest.raises(InputError) as refused:
        load_config(None, {"engine": ["http://alice:s3cret@host/v1"]})
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "identity"),
    [
        ("http://a:1/v1#model", "endpoint#model"),
        ("https://user:key@b/v1#model", "endpoint#model"),
        ("llamacpp:some.gguf", "llamacpp:some.gguf"),
        ("scripted:?latency=1", "scripted:"),
    ],
)
def test_the_model_decides_results_and_its_address_does_not(uri: str, identity: str) -> None:
    config = load_config(None, {"engine": uri, "judge_engine": uri})
    assert config.deciding()["engine"] == config.deciding()["judge_engine"] == identity


def test_a_run_may_be_continued_with_another_concurrency_and_path_but_not_with_another_seed() -> None:
    first = load_config(None, SCRIPTED | {"input": ["a"], "concurrency": 1})
    moved = load_config(None, SCRIPTED | {"input": ["b"], "concurrency": 9})
    other = load_config(None, SCRIPTED | {"input": ["a"], "concurrency": 1, "seed": 1})
    assert first.deciding() == moved.deciding()
    assert differences(first.deciding(), other.deciding()) == ["seed (0 → 1)"]


def test_differences_name_nested_settings_and_missing_ones() -> None:
    old = {"a": {"b": 1, "c": 2}, "d": 3}
    assert differences(old, {"a": {"b": 1, "c": 5}, "e": 4}) == ["a.c (2 → 5)", "d (3 → None)", "e (None → 4)"]


def test_every_setting_says_what_it_does() -> None:
    def silent(model: type[BaseModel], path: str = "") -> list[str]:
        found = []
        for name, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                found += silent(field.annotation, f"{path}{name}.")
            elif not field.description:
                found.append(path + name)
        return found

    assert silent(ExpandConfig) == []


def test_a_setting_of_several_types_says_all_that_would_be_right() -> None:
    with pytest.raises(InputError, match=r"'all' or 'none', or .* less than or equal to 1"):
        load_config(None, {"judge": 7.0})


def test_an_error_speaks_of_one_setting_only(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[pairing]\nattempts = 0\nmax_tokens = 3\n")
    with pytest.raises(InputError) as caught:
        load_config(file, {})
    message = str(caught.value).replace(str(file), "")
    assert "attempts" in message
    assert "64" not in message


def test_keys_in_the_query_of_an_address_are_not_saved() -> None:
    config = load_config(None, {"engine": "http://h:1/v1?api_key=sekret#m", "input": ["https://h/a.jsonl?sig=sekret"]})
    assert config.public()["engine"] == "http://h:1/v1#m"
    assert "sekret" not in str(config.public())
