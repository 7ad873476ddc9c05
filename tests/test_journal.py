"""What a run leaves behind, and how the next one goes on from it."""

import errno
import fcntl
import json
import os
import stat
from dataclasses import replace
from io import FileIO

import numpy as np
import pytest

from howard.engine.journal import Journal
from howard.errors import OutputError
from howard.frames import IDENTITY, Alignment
from howard.write import frame_path
from howard.write.files import partial_path
from howard.write.png import encode_rgba

RUN = {"shot": {"path": "a"}, "clean_plate": {"path": "b"}}
OURS = encode_rgba(np.zeros((1, 1, 4), np.uint8))
ALIGNMENT = Alignment(3, 100, 50, 40, 2.5, 0.9, None, IDENTITY)


def journal(out, run=RUN, overwrite=False):
    return Journal(out, run, overwrite)


def record(log, out, *indices):
    """Frames aligned in order, finished in the order given."""
    for i in sorted(indices):
        log.begin(i, i / 30, ALIGNMENT, decode=1.0, align=2.0)
        log.matted(i, 0.875, 3.0)
    log.start()
    for i in indices:
        frame_path(out, i).write_bytes(OURS)
        log.written(i, 4.0)


def started(out, *indices, **options):
    log = journal(out, **options)
    log.begin_writing()
    record(log, out, *indices)
    return log


def test_the_report_has_the_documented_fields(tmp_path):
    log = started(tmp_path, 0)
    log.finish(["a warning"], {"frames": 1})
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["schema"] == 1
    assert report["run"] == RUN
    assert report["warnings"] == ["a warning"]
    assert report["totals"] == {"frames": 1}
    assert report["frames"] == [
        {
            "index": 0,
            "pts_seconds": 0.0,
            "plate_index": 3,
            "keypoints": 100,
            "matches": 50,
            "inliers": 40,
            "residual": 2.5,
            "coverage": 0.9,
            "fallback": None,
            "homography_frame_from_plate": list(IDENTITY),
            "confidence": 0.875,
            "milliseconds": {"decode": 1.0, "align": 2.0, "matte": 3.0, "write": 4.0},
        }
    ]


def test_frames_are_reported_in_order_however_they_finished(tmp_path):
    started(tmp_path, 2, 0, 1).finish([], {})
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["index"] for row in report["frames"]] == [0, 1, 2]


def test_finishing_leaves_only_pictures_and_the_report(tmp_path):
    started(tmp_path, 0, 1).finish([], {})
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["000000.png", "000001.png", "report.json"]


def test_an_empty_run_still_reports(tmp_path):
    started(tmp_path).finish([], {"frames": 0})
    assert json.loads((tmp_path / "report.json").read_text())["frames"] == []


def test_an_interrupted_run_is_gone_on_with(tmp_path):
    started(tmp_path, 0, 1).close()
    again = journal(tmp_path)
    assert again.resumed == 2
    assert [again.is_done(i) for i in range(3)] == [True, True, False]
    assert again.last_alignment() == (1, ALIGNMENT)
    again.begin_writing()
    record(again, tmp_path, 2)
    again.finish([], {})
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["index"] for row in report["frames"]] == [0, 1, 2]


def test_a_line_that_was_cut_off_is_dropped(tmp_path):
    log = started(tmp_path, 0, 1)
    log.close()
    text = log.partial.read_bytes()
    log.partial.write_bytes(text[:-10])
    again = journal(tmp_path)
    assert [again.is_done(i) for i in range(2)] == [True, False]
    again.begin_writing()
    record(again, tmp_path, 1)
    again.finish([], {})
    assert len(json.loads((tmp_path / "report.json").read_text())["frames"]) == 2


def test_a_row_without_its_picture_is_done_again(tmp_path):
    started(tmp_path, 0, 1).close()
    frame_path(tmp_path, 0).unlink()
    assert [journal(tmp_path).is_done(i) for i in range(2)] == [False, True]


def test_a_finished_run_needs_nothing_more(tmp_path):
    started(tmp_path, 0, 1).finish([], {"frames": 2})
    again = journal(tmp_path)
    assert again.resumed == 2
    again.begin_writing()
    again.finish([], {"frames": 2})
    assert len(json.loads((tmp_path / "report.json").read_text())["frames"]) == 2


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"shot": {"path": "c"}}, "shot a: "),
        ({"clean_plate": {"path": "b", "bytes": 2}, "bit_depth": 16}, "changed since, bit depth 8"),
    ],
)
def test_another_run_is_not_mixed_in_and_told_apart(tmp_path, other, told):
    started(tmp_path, 0, run=RUN | {"bit_depth": 8}).close()
    with pytest.raises(OutputError, match=rf"another run, with .*{told}.*--overwrite"):
        journal(tmp_path, RUN | {"bit_depth": 8} | other)
    assert frame_path(tmp_path, 0).exists()


def test_pictures_whose_frames_are_not_finished_may_be_replaced(tmp_path):
    """One was damaged, say, and exported again."""

    def run(stamps):
        return RUN | {"shot": {"path": "shot", "files": 3, "stamps": stamps}}

    started(tmp_path, 0, 1, run=run("0000000011111111bad-----")).close()
    again = journal(tmp_path, run("000000001111111122222222"))
    assert [again.is_done(i) for i in range(3)] == [True, True, False]
    again.begin_writing()
    record(again, tmp_path, 2)
    again.close()
    assert journal(tmp_path, run("000000001111111122222222")).resumed == 3
    for stamps in ("0000000011111111bad-----", "00000000other---22222222", "0000000011111111"):
        with pytest.raises(OutputError, match="another run, with shot changed since"):
            journal(tmp_path, run(stamps))


def test_a_run_of_another_version_is_told_to_be_that(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("howard.engine.journal.__version__", "0.0.9")
        started(tmp_path, 0).close()
    with pytest.raises(OutputError, match=r"another run, of Howard 0\.0\.9: .*--overwrite"):
        journal(tmp_path)


def test_pictures_of_another_program_are_not_touched(tmp_path):
    (tmp_path / "000007.png").write_bytes(b"theirs")
    with pytest.raises(OutputError, match="no run of Howard"):
        journal(tmp_path)
    assert (tmp_path / "000007.png").read_bytes() == b"theirs"


def test_not_even_overwrite_clears_pictures_of_another_program(tmp_path):
    (tmp_path / "000007.png").write_bytes(b"theirs")
    with pytest.raises(OutputError, match="no run of Howard"):
        journal(tmp_path, overwrite=True)


def test_going_on_follows_the_last_frame_with_a_plate_of_its_own(tmp_path):
    log = started(tmp_path, 0)
    for i, fallback in ((1, None), (2, "last_homography")):
        log.begin(i, i / 30, replace(ALIGNMENT, plate_index=i, fallback=fallback))
        log.matted(i, 1.0, 1.0)
        frame_path(tmp_path, i).write_bytes(OURS)
        log.written(i, 1.0)
    log.close()
    index, alignment = journal(tmp_path).last_alignment()
    assert (index, alignment.plate_index) == (1, 1)
    assert journal(tmp_path).fallbacks() == 1


def test_going_on_follows_what_leads_up_to_the_first_missing_frame(tmp_path):
    log = started(tmp_path, 2, 3, 7)
    log.close()
    resume = [journal(tmp_path).last_alignment(first) for first in range(9)]
    leads = [found and found[0] for found in resume]
    assert leads == [None, None, 3, 3, 3, None, None, 7, 7]


def test_reading_an_earlier_run_changes_nothing(tmp_path):
    started(tmp_path, 0, 1).finish([], {"frames": 2})
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    journal(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_finished_report_gives_its_rows_back_to_be_added_to(tmp_path):
    started(tmp_path, 0, 1, 2).finish([], {"frames": 3})
    frame_path(tmp_path, 1).unlink()
    again = journal(tmp_path)
    again.begin_writing()
    record(again, tmp_path, 1)
    assert again.resumed == 2
    again.finish(["new"], {"frames": 3})
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["index"] for row in report["frames"]] == [0, 1, 2]
    assert report["warnings"] == ["new"]
    assert sorted(p.name for p in tmp_path.iterdir())[-1] == "report.json"


def test_a_full_disk_is_one_error_also_when_the_journal_is_closed(tmp_path):
    log = started(tmp_path, 0)
    log.file = FileIO("/dev/full", "w")
    log.begin(1, 0.0, ALIGNMENT)
    log.matted(1, 1.0, 1.0)
    with pytest.raises(OutputError, match="No space left"):
        log.written(1, 1.0)
    log.close()
    assert not log.is_done(1)


def test_other_files_in_the_folder_do_not_matter(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "cover.png").write_text("mine")
    assert journal(tmp_path).resumed == 0


def test_overwrite_clears_the_earlier_run_and_nothing_else(tmp_path):
    started(tmp_path, 0, 1, 2).finish([], {})
    (tmp_path / "notes.txt").write_text("mine")
    started(tmp_path, 0, run={"shot": "else"}, overwrite=True).finish([], {})
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["000000.png", "notes.txt", "report.json"]


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["000007.png", "0000001.png"])
def test_a_folder_is_refused_where_others_put_numbered_pictures(tmp_path, name, overwrite):
    started(tmp_path, 0, 1, 2).finish([], {})
    (tmp_path / name).write_bytes(b"theirs")
    with pytest.raises(OutputError, match=f"{name}, which is not in its report: move it"):
        journal(tmp_path, overwrite=overwrite)
    assert (tmp_path / name).read_bytes() == b"theirs"
    assert frame_path(tmp_path, 2).exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_picture_that_a_killed_run_had_no_time_to_note_is_its_own(tmp_path, overwrite):
    started(tmp_path, 0, 1).close()
    frame_path(tmp_path, 2).write_bytes(OURS)
    log = journal(tmp_path, overwrite=overwrite)
    log.begin_writing()
    record(log, tmp_path, 3)
    log.finish([], {})  # of frame 3 alone: that of 2 stands, or is cleared, and is no stranger's
    assert frame_path(tmp_path, 2).exists() != overwrite
    assert journal(tmp_path).resumed == (1 if overwrite else 3)


def test_overwrite_takes_an_empty_picture_of_the_report_for_its_own(tmp_path):
    started(tmp_path, 0, 1).finish([], {})
    frame_path(tmp_path, 1).write_bytes(b"")  # and here the machine stopped
    started(tmp_path, 0, overwrite=True).finish([], {})
    assert not frame_path(tmp_path, 1).exists()


def test_what_a_crash_left_unfinished_is_removed_and_nothing_else(tmp_path):
    started(tmp_path, 0).finish([], {})
    for name in (".000002.png.partial", ".hidden", "notes.partial"):
        (tmp_path / name).write_bytes(b"x")
    started(tmp_path, 1).finish([], {})
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"000000.png", "000001.png", "report.json", ".hidden", "notes.partial"}


@pytest.mark.parametrize("refused", ["folder", "all"])
def test_where_a_folder_cannot_be_locked_a_file_in_it_is(tmp_path, monkeypatch, refused):
    """As on NFS: it locks what is open for writing, no folder."""
    flock = fcntl.flock

    def of_nfs(descriptor, how):
        if refused == "all" or stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")
        return flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", of_nfs)
    first = started(tmp_path, 0)
    if refused == "all":
        journal(tmp_path).begin_writing()
        return
    with pytest.raises(OutputError, match="another run is writing into"):
        journal(tmp_path).begin_writing()
    first.close()
    journal(tmp_path).begin_writing()


def test_overwrite_clears_an_interrupted_run_too(tmp_path):
    started(tmp_path, 0, 1, 2).close()
    started(tmp_path, 1, overwrite=True).finish([], {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000001.png", "report.json"]


def test_overwrite_touches_nothing_before_the_first_picture_is_ready(tmp_path):
    started(tmp_path, 0).finish([], {})
    log = journal(tmp_path, {"shot": "else"}, overwrite=True)
    log.begin_writing()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000.png", "report.json"]
    log.finish([], {})  # nothing came of it
    assert sorted(p.name for p in tmp_path.iterdir()) == ["000000.png", "report.json"]
    log.begin_writing()
    log.start()
    assert [p.name for p in tmp_path.iterdir()] == ["report.partial.jsonl"]


def test_a_run_that_ends_before_its_first_row_is_known_again(tmp_path):
    log = journal(tmp_path)
    log.begin_writing()
    log.start()
    frame_path(tmp_path, 0).write_bytes(OURS)  # and here the machine stopped
    log.close()
    assert journal(tmp_path).resumed == 0


def test_a_picture_that_is_empty_is_made_again(tmp_path):
    started(tmp_path, 0, 1).finish([], {})
    frame_path(tmp_path, 0).write_bytes(b"")
    again = journal(tmp_path)
    assert (again.is_done(0), again.is_done(1)) == (False, True)


def test_warnings_of_earlier_calls_are_kept(tmp_path):
    started(tmp_path, 0).finish(["dark", "damaged"], {})
    started(tmp_path, 1).close()  # interrupted
    started(tmp_path, 2).finish(["damaged", "short"], {})
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["warnings"] == ["dark", "damaged", "short"]
    started(tmp_path, 0, overwrite=True).finish(["new"], {})
    assert json.loads((tmp_path / "report.json").read_text())["warnings"] == ["new"]


def test_only_one_run_at_a_time_writes_into_a_folder(tmp_path):
    first = started(tmp_path, 0)
    unfinished = partial_path(frame_path(tmp_path, 1))
    unfinished.write_bytes(b"half")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="another run is writing"):
            journal(tmp_path, overwrite=overwrite).begin_writing()
    assert unfinished.exists()
    assert frame_path(tmp_path, 0).exists()
    first.close()
    started(tmp_path, 1)


def test_what_another_run_finished_meanwhile_is_kept(tmp_path):
    late = journal(tmp_path)
    started(tmp_path, 0, 1).finish([], {})
    late.begin_writing()
    record(late, tmp_path, 2)
    late.finish([], {})
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["index"] for row in report["frames"]] == [0, 1, 2]
    assert late.resumed == 2


def test_a_report_that_is_not_ours_is_not_taken_for_one(tmp_path):
    (tmp_path / "report.json").write_text("[1, 2")
    with pytest.raises(OutputError):
        journal(tmp_path)


def test_memory_does_not_grow_with_the_rows(tmp_path):
    log = started(tmp_path, *range(50))
    assert log.open_rows == {}
    assert all(isinstance(v, int) for v in log.offsets.values())
