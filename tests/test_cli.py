"""The command line, and what importing costs."""

import io
import os
import subprocess
import sys

import pytest

from howard import __version__
from howard.config import RunConfig
from howard.engine.__main__ import INTERRUPTED, main
from howard.engine.commands import NOBODY_LISTENS, parse
from howard.engine.progress import Progress

pytestmark = pytest.mark.usefixtures("no_gpu")

HEAVY = "torch cupy nvidia.dali tensorrt onnxruntime av cv2"


def test_options_come_from_the_config():
    config = parse(["run", "a.mp4", "b.mp4", "out", "--batch", "3", "--overwrite"])
    assert isinstance(config, RunConfig)
    assert (str(config.shot), config.batch, config.overwrite) == ("a.mp4", 3, True)


def test_paths_behind_two_hyphens_may_begin_with_one():
    config = parse(["run", "--batch", "3", "--", "-a.mp4", "--overwrite", "-out"])
    assert isinstance(config, RunConfig)
    paths = [str(path) for path in (config.shot, config.clean_plate, config.out)]
    assert (paths, config.batch) == (["-a.mp4", "--overwrite", "-out"], 3)
    assert config.overwrite is False


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["run", "a", "b", "c", "--overwrit"], "--overwrite"),
        (["run", "a", "b", "c", "--bach=3"], "--batch"),
        (["run", "a", "b", "c", "--wieghts", "x"], "--weights"),
        (["rnu", "a", "b", "c"], "run"),
        (["inof"], "info"),
    ],
)
def test_a_misspelt_word_names_the_nearest(capsys, arguments, hint):
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert f"did you mean {hint}?" in error


def test_a_word_like_no_other_lists_what_there_is(capsys):
    assert main(["zzzzzz"]) == 2
    assert "run, info" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run"], "howard: missing: SHOT, CLEAN_PLATE, OUT; see howard run --help"),
        (["run", "a.mp4", "b.mp4"], "howard: missing: OUT; see howard run --help"),
        (["run", "a", "b", "c", "--batch", "x"], "howard: --batch is 'x': give a whole number"),
        (["run", "a", "b", "c", "--device", "gpuu"], "--device is 'gpuu': give auto, cpu, gpu"),
        (["run", "a", "b", "c", "--plate-search=foo"], "'foo': give nearest, track, global"),
        (["run", "a", "b", "c", "--bit-depth", "12"], "--bit-depth is '12': give 8, 16"),
        (["run", "a", "b", "c", "--weights"], "'--weights'"),
        (["run", "a", "b", "c", "d"], "d is one path too many: put a pattern in quotes"),
        (["run", "a1.jpg", "a2.jpg", "a3.jpg", "p.mp4", "o"], "p.mp4 is one path too many"),
        (["run", "a", "b", "--out", "c"], "there is no option --out"),
        (["run", "a", "b", "c", "-overwrite"], "--overwrite"),
        (["run", "a", "", "c"], "an argument is empty"),
        (["run", "a", "b", "c", "--debug="], "--debug is empty"),
        (["run", "a", "b", "c", "--resume"], "the same command goes on by itself"),
        (["--versoin"], "did you mean --version?"),
        ([], "there is no command"),
    ],
)
def test_what_cannot_be_understood_is_one_line_and_exit_2(capsys, arguments, told):
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert "helptext" not in error
    assert told in error


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_help_exits_0(arguments, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 0
    assert "SHOT" in capsys.readouterr().out or arguments == ["--help"]


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"howard {__version__}\n"


def test_info_tells_what_a_bug_report_needs(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for word in ("howard", "device", "threads", "python", "weights", "onnxruntime", "sha256"):
        assert word in out


def test_a_pipe_that_nobody_reads_is_no_traceback():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "howard.engine", "info"]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (NOBODY_LISTENS, b"")


@pytest.mark.parametrize("arguments", [["info"], ["run", "--help"], ["--version"]])
def test_a_full_disk_under_what_is_printed_is_one_line_and_exit_2(arguments):
    command = [sys.executable, "-m", "howard.engine", *arguments]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False, text=True)
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "standard output: No space left on device" in line


def test_a_full_disk_under_what_is_told_aside_ends_no_run():
    script = "from howard.command_line import say\nfor line in 'ab':\n    say(line)\nprint('done')"
    command = [sys.executable, "-c", script]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, check=False, text=True)
    assert (ended.returncode, ended.stdout) == (0, "done\n")


class OpenCVError(Exception):
    """As cv2.error, which is not worth loading OpenCV for."""


def test_ctrl_c_while_modules_are_loaded_is_one_line_as_later(tmp_path):
    (tmp_path / "tyro.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    found = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "howard.engine", "run", "a", "b", "c"]
    environment = os.environ | {"PYTHONPATH": found}
    ended = subprocess.run(command, capture_output=True, check=False, text=True, env=environment)
    assert ended.returncode == INTERRUPTED
    (line,) = ended.stderr.split("\n")[1:-1]  # a new line after the terminal's ^C
    assert line.startswith("howard: stopped")


OUT_OF_MEMORY = [
    MemoryError(),
    MemoryError("Unable to allocate 3.00 GiB for an array with shape (3, 32768, 32768)"),
    OpenCVError("alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes in\n"),
    RuntimeError("[ONNXRuntimeError] : " + 20 * "a node " + "Failed to allocate memory"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_too_little_memory_is_one_line_that_says_what_helps(monkeypatch, tmp_path, capsys, error):
    def starve(*_):
        raise error

    monkeypatch.setattr("howard.engine.run.run", starve)
    assert main(["run", "a", "b", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("howard: memory is short")
    assert "smaller --batch" in line
    assert len(line) < 320


def test_another_error_of_a_library_is_a_bug_and_stays_one(monkeypatch, tmp_path):
    def fail(*_):
        raise OpenCVError("error: (-215:Assertion failed) inv_scale_x > 0 in function 'resize'")

    monkeypatch.setattr("howard.engine.run.run", fail)
    with pytest.raises(OpenCVError):
        main(["run", "a", "b", str(tmp_path / "out")])


def test_letters_that_the_terminal_lacks_are_no_traceback(monkeypatch):
    monkeypatch.setattr("howard.engine.info.info", lambda: {"path": "d\u00fcne"})
    page = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(page, encoding="ascii"))
    assert main(["info"]) == 0
    assert b"d\\xfcne" in page.getvalue()


def test_progress_needs_no_stderr(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with Progress() as progress:
        progress.start(3, 0)
        progress.reach(1)
    assert progress.done == 1


@pytest.mark.parametrize(
    "module", ["howard", "howard.engine", "howard.frames", "howard.config", "howard.engine.run"]
)
def test_importing_pulls_in_nothing_heavy(module):
    code = (
        f"import sys, {module}; heavy = [m for m in '{HEAVY}'.split() if m in sys.modules];"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_frame_loop_stays_short():
    import inspect

    from howard.engine.run import run

    assert len(inspect.getsource(run).splitlines()) <= 40
