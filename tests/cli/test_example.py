"""``rllib example``."""

from pathlib import Path

from rllib_stpn.cli.main import main
from rllib_stpn.experiments import examples

FILES = sorted((Path(__file__).parents[2] / "tuned_examples").glob("*.yaml"))


def test_list_names_every_file_in_aligned_columns(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["example", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [file.stem for file in FILES]
    width = 2 + max(len(file.stem) for file in FILES)
    assert all(line[width - 1] == " " and line[width] != " " for line in lines)


def test_get_prints_the_file(capsys):
    assert main(["example", "get", "pong-stpn"]) == 0
    assert capsys.readouterr().out == examples.find("pong_stpn").read_text()


def test_mistakes_are_told_in_a_line(capsys):
    for arguments, told in (
        (["get", "pong_stp"], "did you mean pong_stpn"),
        (["run", "xyzzy"], "`rllib example list` shows them all"),
        (["list", "--filter", "xyzzy"], "--filter: got 'xyzzy'"),
        ([], "ACTION"),
    ):
        assert main(["example", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
