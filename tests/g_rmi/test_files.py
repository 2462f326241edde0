"""One program in a directory at a time; files that are whole or not there."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from g_rmi import files
from g_rmi.files import check_directory, check_file, locked, print_anything, write_whole

HOLD = """
import sys, time
from g_rmi.files import locked
with locked(sys.argv[1]):
    print("in", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that works in the directory `run`."""
    words = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "in\n"
        yield process
        process.kill()


def test_the_second_is_refused_and_a_killed_one_blocks_nobody(holder, tmp_path):
    with pytest.raises(OSError, match=rf"run is in use by process {holder.pid} on .*: wait"):
        locked(tmp_path / "run").__enter__()
    with locked(tmp_path / "other"):
        pass
    holder.kill()
    holder.wait()
    for _ in range(2):
        with locked(tmp_path / "run"):
            assert f"process {os.getpid()} on" in (tmp_path / "run" / ".lock").read_text()


def test_one_can_wait_and_says_so(holder, tmp_path, capfd):
    words = [sys.executable, "-c", HOLD.replace(")", ", wait=True)", 1), str(tmp_path / "run")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as two:
        assert two.stdout
        assert two.stderr
        assert f"in use by process {holder.pid}" in two.stderr.readline()
        holder.kill()
        assert two.stdout.readline() == "in\n"
        two.kill()


def test_without_locks_it_goes_on_with_a_note(tmp_path, monkeypatch, capsys):
    def flock(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with locked(tmp_path):
        assert "has no locks" in capsys.readouterr().err


def test_a_terminal_gets_what_it_can_show(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    print_anything()
    print("é\udcff.jpg", flush=True)
    assert terminal.buffer.getvalue() == b"??.jpg\n"


def test_a_name_as_long_as_there_can_be_is_written(tmp_path):
    for name in ("a", "l" * 251 + ".jpg", "é" * 120 + ".jpg"):
        write_whole(tmp_path / name, "–")
        assert (tmp_path / name).read_bytes() == "–".encode()
    with pytest.raises(OSError, match=f"{'l' * 300}"):
        write_whole(tmp_path / ("l" * 300), "")
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("check", "path"),
    [
        (check_directory, "file"),
        (check_directory, "file/below/it"),
        (check_file, "file/report.json"),
        (check_file, "folder"),
    ],
)
def test_what_cannot_be_written_is_named(check, path, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=path.partition("/")[0]):
        check(tmp_path / path)
    for bucket in ("gs://bucket/runs", Path("s3://bucket")):
        with pytest.raises(OSError, match=r"must be a path of this machine.*: '[gs]"):
            check_directory(bucket)
    check_file(tmp_path / "new" / "report.json")
    assert not (tmp_path / "new").exists()


def test_names_that_are_no_text_are_written_as_their_bytes(tmp_path):
    write_whole(tmp_path / "names", "b\udcc3\udcbccher")
    assert (tmp_path / "names").read_bytes() == "bücher".encode()
