"""Writing atomically wherever something can be written: beside the target, or inside it where it cannot be renamed."""

import errno
import os
from pathlib import Path

import pytest
from conftest import ROOT, TEXTS, make_nlp
from spacy.util import load_config

from mtl import files
from mtl.adaptation.run import adapt
from mtl.adaptation.settings import AdaptSettings
from mtl.errors import UserError
from mtl.files import WORK, check_target, replacing, workplace
from mtl.training.run import train_config
from mtl.training.saving import atomic_save


def write(path, marker, text):
    with replacing(path, marker) as partial:
        if marker:
            partial.mkdir()
            (partial / marker).write_text(text)
            (partial / "sub").mkdir()
            (partial / "sub" / "a").write_text(text)
        else:
            partial.write_text(text)


def content(path):
    return (path / "meta.json").read_text(), (path / "sub" / "a").read_text(), sorted(os.listdir(path))


@pytest.fixture(params=["mount point", "parent not writable", "busy at the end", "another device at the end"])
def place(request, tmp_path, monkeypatch):
    """Where a folder and a file can be filled, and neither be renamed."""
    folder, file = tmp_path / "place" / "out", tmp_path / "place" / "report.json"
    folder.mkdir(parents=True)
    file.write_text("old")
    real = files.tempfile.mkdtemp

    def mkdtemp(prefix="", dir=None):
        if dir is not None and Path(dir) == folder.parent:
            raise PermissionError(errno.EACCES, "Permission denied", str(dir))
        return real(prefix=prefix, dir=dir or tmp_path)

    def fail(number):
        def rename(source, target):
            if Path(source) in (folder, file) or Path(target) in (folder, file):
                raise OSError(number, os.strerror(number))
            os.rename(source, target)

        return rename

    if request.param == "mount point":
        monkeypatch.setattr(files.os.path, "ismount", lambda path: Path(path) in (folder, file))
        monkeypatch.setattr(files.os, "replace", fail(errno.EBUSY))
    elif request.param == "parent not writable":
        monkeypatch.setattr(files.tempfile, "mkdtemp", mkdtemp)
        monkeypatch.setattr(files.os, "access", lambda path, mode: Path(path) != folder.parent)
        monkeypatch.setattr(files.os, "replace", fail(errno.EACCES))
    else:
        monkeypatch.setattr(files.os, "replace", fail(errno.EBUSY if request.param.startswith("busy") else errno.EXDEV))
    return folder, file


def test_a_folder_that_cannot_be_renamed_is_filled(place):
    folder, _ = place
    for text in ("first", "second"):
        write(folder, "meta.json", text)
        assert content(folder) == (text, text, ["meta.json", "sub"])
    assert sorted(os.listdir(folder.parent)) == ["out", "report.json"]


def test_a_file_that_cannot_be_renamed_is_overwritten(place):
    _, file = place
    write(file, "", "new")
    assert file.read_text() == "new" and sorted(os.listdir(file.parent)) == ["out", "report.json"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("moves", range(5))
def test_an_error_in_between_leaves_what_was_there(place, monkeypatch, moves, error):
    folder, _ = place
    write(folder, "meta.json", "old")
    real, count = files.shutil.move, []

    def move(source, target):
        count.append(1)
        if len(count) == moves + 1:
            raise error
        return real(source, target)

    monkeypatch.setattr(files.shutil, "move", move)
    if moves < 4:
        with pytest.raises(error):
            write(folder, "meta.json", "new")
        assert content(folder) == ("old", "old", ["meta.json", "sub"])
    else:
        write(folder, "meta.json", "new")
        assert content(folder) == ("new", "new", ["meta.json", "sub"])


def test_an_error_while_writing_leaves_what_was_there(place):
    folder, file = place
    write(folder, "meta.json", "old")
    for path, marker in ((folder, "meta.json"), (file, "")):
        with pytest.raises(RuntimeError), replacing(path, marker):
            raise RuntimeError
    assert content(folder) == ("old", "old", ["meta.json", "sub"]) and file.read_text() == "old"


def test_a_place_where_nothing_can_be_written_is_found_before_the_work(tmp_path, monkeypatch):
    def mkdtemp(prefix="", dir=None):
        raise PermissionError(errno.EACCES, "Permission denied", str(dir))

    monkeypatch.setattr(files.tempfile, "mkdtemp", mkdtemp)
    for path, marker in ((tmp_path / "new", "meta.json"), (tmp_path / "new.json", ""), (tmp_path, "meta.json")):
        with pytest.raises(UserError, match=r"cannot be written: Permission denied"):
            check_target(path, marker)


def test_a_pipeline_is_saved_into_a_mounted_folder(tiny, place):
    folder, _ = place
    nlp = atomic_save()(make_nlp(tiny(), heads=("textcat",)))
    for _ in range(2):
        nlp.to_disk(folder)
        assert (folder / "transformer" / "encoder" / "model.safetensors").is_file()


def test_checkpoints_and_caches_lie_where_they_last(place):
    """Beside the target, or in it if only that can be written to or is mounted; and there they survive the writing."""
    folder, _ = place
    work = workplace(folder)
    assert work in (folder.parent, folder / WORK)
    if work == folder / WORK:
        (work / "blocks").mkdir(parents=True)
        check_target(folder, "meta.json")  # nothing else is in it
    for text in ("first", "second"):
        write(folder, "meta.json", text)
        assert content(folder)[:2] == (text, text) and (work / "blocks").exists() == (work == folder / WORK)


def test_adapt_runs_where_only_its_own_folder_can_be_written_to(tiny, tmp_path, monkeypatch):
    """Checkpoints and tokenized text are in it as well."""
    text, out = tmp_path / "text.txt", tmp_path / "place" / "out"
    text.write_text("\n\n".join(TEXTS * 20))
    out.mkdir(parents=True)
    monkeypatch.setattr(files.os.path, "ismount", lambda path: Path(path) == out)
    settings = AdaptSettings(block_size=32, max_steps=4, device="cpu", eval_blocks=2)
    for _ in range(2):
        adapt(tiny(), [str(text)], out, settings=settings, echo=lambda line: None)
        assert (out / "model.safetensors").is_file() and list((out / WORK / "blocks").iterdir())
        assert os.listdir(out.parent) == ["out"] and not (out / WORK / "out.checkpoints").exists()


def test_train_finds_out_before_it_starts_that_it_cannot_write(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file.*cannot be written"):
        train_config(load_config(ROOT / "configs" / "sample.cfg"), tmp_path / "file" / "out")
