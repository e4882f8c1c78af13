"""The Python API as a notebook uses it: the README's study, run here, with nothing but the package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from queue_runner import Client, QueueRunnerError, State, Study, run

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DATA", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    monkeypatch.setenv("QUEUE_RUNNER_RUNTIME", "process")


def failing() -> Study:
    return Study(
        name="some",
        kind="command",
        parameters={"x": (0, 1)},
        command={"run": ["sh", "-c", "exit {x}"]},
    )


def test_the_example_of_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    exec(code, {})  # the text of our own README  # noqa: S102
    assert "squares-" in capsys.readouterr().out


def test_results_are_iterated_and_tabulated() -> None:
    handle = run(failing(), "here")
    states = {result.point["x"]: result.state for result in handle.as_completed(timeout_s=5)}
    assert states == {0: State.SUCCEEDED, 1: State.FAILED}
    assert handle.status().done
    frame = handle.table()
    assert frame["x"].to_list() == [0, 1]
    assert frame["reason"].to_list() == [None, "exit-code"]
    assert [row["x"] for row in handle.rows([State.FAILED])] == [1]


def test_another_library_is_refused() -> None:
    handle = run(failing(), "here")
    with pytest.raises(ValueError, match="'polars' or 'pandas'"):
        handle.table("excel")  # type: ignore[arg-type]


def test_what_is_not_there_is_an_error_of_ours() -> None:
    with (
        Client("redis://127.0.0.1:9", collector="http://127.0.0.1:9") as client,
        pytest.raises(QueueRunnerError, match="no collector answers at"),
    ):
        client.submit(failing())
    with pytest.raises(QueueRunnerError, match="expected a URL such as"):
        Client(collector="head:8787")
