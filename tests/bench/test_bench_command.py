"""`app.py bench NAME`."""

from typer.testing import CliRunner

from chai_app.cli import app
from chai_app.cli.bench import BENCHES


def run(*arguments):
    return CliRunner().invoke(app, ["bench", *arguments])


def test_without_a_name_the_benchmarks_are_listed():
    for arguments in ((), ("--help",)):
        result = run(*arguments)
        assert result.exit_code == 0
        assert all(f"bench {name}" in result.stdout for name in BENCHES)


def test_a_benchmark_that_there_is_not_is_one_sentence():
    result = run("speed")
    assert result.exit_code == 2
    assert "no benchmark 'speed': choose one of reuse" in result.stderr


def test_options_go_to_the_benchmark_and_so_do_its_errors():
    told = run("stream", "--help")
    assert told.exit_code == 0
    assert "Zipf's law" in told.stdout
    result = run("stream", "--prompt-file", "none.txt")
    assert result.exit_code == 2
    assert "none.txt cannot be read" in result.stderr
