"""The folders that commands write: who has one, what is refused, what goes on, when it is done."""

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from mga.data.output_folder import KINDS, LOSSES, PACK, check_output, exclusive, kind_of, open_output
from mga.errors import InputError, StopError

IDENTITY = {"settings": {"context": 256, "sizes": (1, 2), "model": {"name": "a"}}}


def record_in(folder: Path) -> dict[str, object]:
    return dict(orjson.loads((folder / "losses.json").read_bytes()))


def test_a_folder_is_begun_continued_and_done(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with open_output(out, LOSSES, IDENTITY, {"mga": "1"}) as folder:
        assert not folder.is_complete
        (out / "part").write_text("made")
    assert record_in(out) == {
        "kind": "losses",
        "version": 1,
        "mga": "1",
        "settings": {"context": 256, "sizes": [1, 2], "model": {"name": "a"}},
    }
    with open_output(out, LOSSES, IDENTITY, {"mga": "2"}) as folder:
        assert not folder.is_complete
        assert (out / "part").read_text() == "made"
        folder.finish({"counts": {}})
    with open_output(out, LOSSES, IDENTITY) as folder:
        assert folder.is_complete
        assert folder.record == record_in(out)
    assert record_in(out)["mga"] == "1"
    assert record_in(out)["counts"] == {}


def test_other_settings_are_named_with_both_values(tmp_path: Path) -> None:
    with open_output(tmp_path, LOSSES, IDENTITY):
        pass
    other = {"settings": {"context": 128, "sizes": [1, 2], "model": {"name": "b"}}}
    with (
        pytest.raises(
            InputError,
            match=r"was made otherwise: settings\.context \(256 → 128\); settings\.model\.name \(a → b\)\. Use",
        ),
        open_output(tmp_path, LOSSES, other),
    ):
        pass


def test_settings_that_may_change_begin_the_record_anew(tmp_path: Path) -> None:
    with open_output(tmp_path, LOSSES, IDENTITY) as folder:
        folder.finish({"counts": {"documents": 1}})
    more = {"settings": {**IDENTITY["settings"], "context": 512}}
    with open_output(tmp_path, LOSSES, more, may_change=["settings.context"]) as folder:
        assert not folder.is_complete
    assert "counts" not in record_in(tmp_path)


@pytest.mark.parametrize("file", ["thesis.txt", "letters/to.txt"])
def test_a_folder_with_other_things_is_refused_and_left_as_it_is(tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("mine")
    for ask in (lambda: check_output(tmp_path, LOSSES), open_output(tmp_path, LOSSES, IDENTITY).__enter__):
        with pytest.raises(InputError, match=rf"is not empty \({file.partition('/')[0]}, …\); choose another --out"):
            ask()
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == [file.partition("/")[0]]


def test_a_folder_of_another_command_is_named(tmp_path: Path) -> None:
    with open_output(tmp_path, PACK, {"recipe": {}}):
        pass
    with pytest.raises(InputError, match=r"holds packed data \(mga budget pack\); choose another --out"):
        check_output(tmp_path, LOSSES)


@pytest.mark.parametrize("record", [b"[1]", b'{"kind": "thesis"}', b"{cut off"])
def test_a_file_that_only_has_the_name_of_a_record_is_refused(tmp_path: Path, record: bytes) -> None:
    (tmp_path / "losses.json").write_bytes(record)
    with pytest.raises(InputError, match=r"losses\.json"), open_output(tmp_path, LOSSES, IDENTITY):
        pass
    assert (tmp_path / "losses.json").read_bytes() == record


def test_a_folder_of_a_newer_mga_is_refused(tmp_path: Path) -> None:
    (tmp_path / "losses.json").write_bytes(orjson.dumps({"kind": "losses", "version": 2, **IDENTITY}))
    with pytest.raises(InputError, match=r"has version 2 .* this mga writes version 1"):
        check_output(tmp_path, LOSSES)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="choose another --out"), open_output(path, LOSSES, IDENTITY):
            pass
    with pytest.raises(InputError, match="choose another --out"):
        check_output(tmp_path / "file", LOSSES)


def test_a_folder_is_of_one_process_at_a_time(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mga.data.output_folder import *\n"
        f"with open_output(Path({str(tmp_path)!r}), LOSSES, {{}}):\n"
        "    print('has it', flush=True); sys.stdin.read()\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdin is not None
    assert other.stdout.readline() == "has it\n"
    for ask in (lambda: check_output(tmp_path, LOSSES), open_output(tmp_path, LOSSES, {}).__enter__):
        with pytest.raises(InputError, match=r"Another mga process is working in"):
            ask()
    other.kill()
    other.wait(timeout=60)
    with open_output(tmp_path, LOSSES, {}, wait_s=60):  # a lock ends with its process
        pass


def test_settings_refused_before_anything_was_made_leave_the_folder_free(tmp_path: Path) -> None:
    for made in ([], ["part"], [".scratch"]):
        out = tmp_path / f"with {made}"
        with pytest.raises(InputError, match="too few"), open_output(out, LOSSES, IDENTITY):
            for name in made:
                (out / name).write_text("paid for")
            raise InputError("too few")
        assert (out / "losses.json").exists() == bool(made)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"Cannot write in .*; choose another --out"):
        exclusive(tmp_path / "out")


def test_a_full_disk_is_a_sentence_and_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    said = r"Cannot work in .*: No space left on device"
    with pytest.raises(StopError, match=said), open_output(tmp_path / "full", LOSSES, IDENTITY):
        raise OSError(28, "No space left on device")
    with pytest.raises(FileNotFoundError), open_output(tmp_path / "out", LOSSES, IDENTITY):
        raise FileNotFoundError(2, "No such file or directory", "/elsewhere")


def test_of_processes_that_work_together_the_first_writes(tmp_path: Path) -> None:
    met = []
    with open_output(tmp_path, LOSSES, IDENTITY, first=False, meet=lambda: met.append(1)) as folder:
        assert folder.finish({"counts": {"documents": 3}})["counts"] == {"documents": 3}
    assert met == [1]
    assert list(tmp_path.iterdir()) == []


def test_every_kind_is_recognised_and_a_file_of_somebody_else_is_not(tmp_path: Path) -> None:
    assert len({kind.record for kind in KINDS}) == len(KINDS)
    for kind in KINDS[1:]:
        folder = tmp_path / kind.name
        with open_output(folder, kind, {"settings": {}}):
            assert kind_of(folder) == kind
        (folder / kind.record).write_text('{"settings": {}}')
        assert kind_of(folder) is None
    assert kind_of(tmp_path / "nowhere") is None
