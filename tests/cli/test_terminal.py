"""What commands print, on terminals that take only ASCII and for readers that go away."""

import contextlib
import io
import os
import sys
from pathlib import Path

import pytest

from rllib_stpn.cli import terminal
from rllib_stpn.cli.main import main
from rllib_stpn.cli.signals import Signals

RUNS = Path(__file__).parents[1] / "report/data"


@contextlib.contextmanager
def streams(encoding: str = "ascii"):
    """Standard output and error of such a terminal."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield out, err


def came(stream) -> bytes:
    return stream.buffer.getvalue()


def test_signs_are_spelled_and_other_letters_numbered():
    with streams() as (out, _), terminal.prepared():
        print("1 ± 2, Größe, \udcff")  # The last stands for a byte of a file's name that is no UTF-8.
    assert came(out) == b"1 +- 2, Gr\\xf6\\xdfe, \\udcff\n"


def test_a_terminal_that_has_the_letters_gets_them():
    with streams("utf-8") as (out, _), terminal.prepared():
        print("1 ± 2, Größe, \udcff")
    assert came(out).decode() == "1 ± 2, Größe, \\udcff\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "-f", "größe_日本.yaml"],
        ["evaluate", "größe_日本"],
        ["report", "größe_日本"],
        ["example", "get", "größe_日本"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_errors_in_any_letters_are_told(arguments, encoding):
    with streams(encoding) as (_, err):
        assert main(arguments) == 2
    told = came(err).decode(encoding)
    assert told.startswith("rllib: error: ") and "\\u65e5" in told and "Traceback" not in told


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["report", "--help"]], ids=" ".join)
def test_help_in_ascii(arguments):
    with streams() as (out, _), pytest.raises(SystemExit, match="0"):
        main(arguments)
    assert b"usage: rllib" in came(out)


def test_examples_and_a_report_in_ascii(tmp_path):
    with streams() as (out, _):
        assert main(["example", "list"]) == 0
        for name in ("art_stpn_scalar", "pong_stpn"):
            assert main(["example", "get", name]) == 0
        assert main(["report", str(RUNS), "--out", str(tmp_path)]) == 0
    assert b"art_stpn_scalar" in came(out)
    assert "±" in (tmp_path / "report.md").read_text(encoding="utf-8")  # Files are in UTF-8 everywhere.


def test_streams_are_as_before_afterwards():
    with streams() as _:
        before = sys.stdout, sys.stdout.errors
        main(["example", "list"])
        assert (sys.stdout, sys.stdout.errors) == before


@contextlib.contextmanager
def without_reader():
    """Standard output is a pipe that nobody reads."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", encoding="utf-8") as pipe, contextlib.redirect_stdout(pipe):
        yield


def test_output_that_nobody_reads_ends_a_command_without_a_word(capsys):
    with without_reader(), pytest.raises(SystemExit) as ended:
        main(["example", "list"])
    assert ended.value.code == 141
    assert capsys.readouterr().err == ""


def test_output_that_nobody_reads_asks_a_run_to_end(capsys):
    interruption = Signals()
    with without_reader(), terminal.prepared(), interruption.ending_orderly():
        for _ in range(3):
            print("a result", flush=True)
    assert interruption.exit_code == 141
    assert capsys.readouterr().err.count("stopping after this iteration, with a checkpoint") == 1


@pytest.mark.slow
def test_a_run_whose_reader_goes_away_ends_with_a_checkpoint(start, cartpole, tmp_path, trial_directory):
    process = start("train", cartpole, "--storage-path", tmp_path, "--ray-num-cpus", 1)
    for line in process.stdout:
        if line.split()[:1] == ["1"]:  # The first iteration.
            break
    process.stdout.close()
    assert process.wait(timeout=180) == 141
    assert "Traceback" not in process.stderr.read()
    assert (trial_directory(tmp_path, "cartpole") / "checkpoint_000000").is_dir()
    process.stdout = None


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self):
        return True


@contextlib.contextmanager
def a_terminal(monkeypatch, term="xterm"):
    """Standard output and error of a terminal of 20 columns; yields what comes to both."""
    monkeypatch.delenv("TERM", raising=False)
    if term:
        monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    out = terminal.Output(stream)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(terminal.Output(stream, out)):
        yield stream


def test_a_live_line_is_replaced_by_the_next_and_by_what_is_printed(monkeypatch):
    with a_terminal(monkeypatch) as shown:
        assert terminal.live("first")
        assert terminal.live("second") and terminal.live("second")
        print("line")
        print("error", file=sys.stderr)
        assert terminal.live("x" * 30)
        print("more", file=sys.stderr)
    take = "\r\x1b[K"
    assert shown.getvalue() == f"{take}first{take}second{take}line\nerror\n{take}{'x' * 19}{take}more\n"


@pytest.mark.parametrize("term", ["dumb", None])
def test_a_terminal_that_cannot_take_lines_back_has_no_live_line(monkeypatch, term):
    with a_terminal(monkeypatch, term) as shown:
        assert not terminal.live("text")
    assert shown.getvalue() == ""


def test_a_file_has_no_live_line(capsys):
    with terminal.prepared():
        assert not terminal.live("text")
    assert capsys.readouterr().out == ""
