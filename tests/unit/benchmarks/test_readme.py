from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import readme, results
from benchmarks.readme import BEGIN, END, NAMES, README, benchmark, current, rendered, replaced
from benchmarks.results import Figure, Result, machine

MACHINE = {"cores": 2, "cpu": "A CPU", "memory_gb": 24}


def result(name: str, **machine: object) -> Result:
    return Result(name, "2026-01-02", "abc1234", 1.0, {**MACHINE, **machine}, [{"seconds": 2.0}])


def test_the_readme_shows_what_the_results_on_disk_say_and_nothing_else() -> None:
    text = README.read_text()
    assert replaced(text, current()) == text, "run: python -m benchmarks --readme"


def test_a_figure_stands_beside_its_command_and_the_machine() -> None:
    table = rendered([(result("swaps"), [Figure("failed", "0 of 9", "all fine")]), (result("start"), [])])
    assert table.splitlines() == [
        "Measured on 2 cores (A CPU) with 24 GB of memory:",
        "",
        "| what | Heed | beside it | command |",
        "| --- | --- | --- | --- |",
        '| failed | 0 of 9 | all fine | `make bench ARGS="swaps"` |',
    ]


def test_each_machine_has_a_table_of_its_own() -> None:
    figures = [Figure("failed", "0", ""), Figure("mixed", "0", "")]
    table = rendered([(result("start", cores=64), figures[:1]), (result("swaps"), figures)]).splitlines()
    assert [line for line in table if not line.startswith("| failed") and "mixed" not in line] == [
        "Measured on 2 cores (A CPU) with 24 GB of memory:",
        "",
        *(head := ["| what | Heed | beside it | command |", "| --- | --- | --- | --- |"]),
        "",
        "Measured on 64 cores (A CPU) with 24 GB of memory:",
        "",
        *head,
    ]
    assert table[4] == '| failed | 0 |  | `make bench ARGS="swaps"` |'
    assert table[-1] == '| failed | 0 |  | `make bench ARGS="start"` |'


def test_a_figure_that_was_measured_elsewhere_stands_with_that_machine() -> None:
    figures = [Figure("failed", "0"), Figure("mixed", "0", machine="a Cray"), Figure("lost", "0")]
    table = rendered([(result("swaps"), figures)]).splitlines()
    assert [line for line in table if line.startswith(("Measured", "| failed", "| mixed", "| lost"))] == [
        "Measured on 2 cores (A CPU) with 24 GB of memory:",
        '| failed | 0 |  | `make bench ARGS="swaps"` |',
        '| lost | 0 |  | `make bench ARGS="swaps"` |',
        "Measured on a Cray:",
        '| mixed | 0 |  | `make bench ARGS="swaps"` |',
    ]


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    assert replaced(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\nnew\n{END}\nb"


@pytest.mark.parametrize("text", ["none", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_readme_without_the_markers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="figures"):
        replaced(text, "new")


def test_a_benchmark_that_was_never_run_has_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    assert current() == ""


def test_what_is_saved_is_what_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    saved = results.save("swaps", [{"failed": 0}], began=0.0)
    assert results.load("swaps") == saved
    assert saved.command == 'make bench ARGS="swaps"'
    assert results.load("start") is None


def test_a_run_with_arguments_of_its_own_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    results.save("kills", [], began=0.0, arguments=["--model", "tiny", "--keep"])
    kept = results.load("kills")
    assert kept is not None
    assert kept.command == "python -m benchmarks.kills --model tiny --keep"


def test_a_result_names_neither_machine_nor_folder() -> None:
    said = json.dumps(machine())
    assert Path("/etc/hostname").read_text().strip() not in said
    assert str(Path.home()) not in said
    assert str(readme.ROOT) not in said


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_keeps_to_the_convention(name: str) -> None:
    module = benchmark(name)
    assert module.DESCRIPTION
    assert callable(module.run)
    assert callable(module.figures)
