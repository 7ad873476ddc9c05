"""The stages of a run, built for its device. The only place that knows that there are two."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from howard.align import Aligner
from howard.config import RunConfig
from howard.decode import VideoReader, open_video
from howard.engine.journal import PICTURE, Journal
from howard.engine.timing import Stopwatch, peak_memory_mb
from howard.errors import DeviceError, OutputError
from howard.frames import Frame, Matte, PendingRgba, Plate, VideoInfo
from howard.matte import MattingNetwork, default_weights


@dataclass(frozen=True)
class RunReport:
    """What a run did; the whole of it is in OUT/report.json."""

    frames: int
    seconds: float
    frames_per_second: float
    peak_memory_mb: float
    resumed: int
    fallbacks: int
    warnings: list[str]


@dataclass
class Stages:
    """Decode, align, matte, pack, each timed; and the journal of what is finished."""

    shot: VideoReader
    clean_plate: VideoReader
    aligner: Aligner
    network: MattingNetwork
    journal: Journal
    batch: int
    started: float = field(default_factory=time.monotonic)

    @property
    def info(self) -> VideoInfo:
        return self.shot.info

    def read(self) -> Iterator[list[Frame]]:
        """Batches of the frames that are not finished yet."""
        batch: list[Frame] = []
        for frame in self.shot:
            if not self.journal.is_done(frame.index):
                batch.append(frame)
            if len(batch) == self.batch:
                yield batch
                batch = []
        if batch:
            yield batch

    def align(self, frames: Sequence[Frame]) -> list[Plate]:
        plates = []
        for frame in frames:
            with Stopwatch() as watch:
                plate = self.aligner(frame)
            ms = {"decode": frame.decode_milliseconds, "align": watch.milliseconds}
            self.journal.begin(frame.index, frame.pts_seconds, plate.alignment, **ms)
            plates.append(plate)
        return plates

    def matte(self, frames: Sequence[Frame], plates: Sequence[Plate]) -> list[Matte]:
        with Stopwatch() as watch:
            mattes = self.network(frames, plates)
        each = watch.milliseconds / len(frames)
        for frame, matte in zip(frames, mattes, strict=True):
            self.journal.matted(frame.index, matte.confidence, each)
        self.aligner.observe(mattes[-1].alpha)
        return mattes

    def pack(self, frames: Sequence[Frame], mattes: Sequence[Matte]) -> list[PendingRgba]:
        from howard.write.pack import PackedMatte

        return [PackedMatte(f.index, m) for f, m in zip(frames, mattes, strict=True)]

    def report(self) -> RunReport:
        """Complete the report; call it when the writer has finished."""
        seconds = time.monotonic() - self.started
        frames, resumed = len(self.journal.offsets), self.journal.resumed
        warnings = [w for s in (self.shot, self.clean_plate, self.aligner) for w in s.warnings]
        report = RunReport(
            frames=frames,
            seconds=round(seconds, 3),
            frames_per_second=round((frames - resumed) / seconds, 3),
            peak_memory_mb=round(peak_memory_mb(), 1),
            resumed=resumed,
            fallbacks=self.journal.fallbacks(),
            warnings=warnings,
        )
        totals = asdict(report)
        self.journal.finish(totals.pop("warnings"), totals)
        return report

    def __enter__(self) -> Stages:
        self.journal.begin_writing()
        return self

    def __exit__(self, *exception: object) -> None:
        with ExitStack() as closers:
            for stage in (self.journal, self.aligner, self.shot):
                closers.callback(stage.close)


def build_stages(config: RunConfig) -> Stages:
    """Open the inputs, load the network, and see what an earlier run left.

    Touches nothing on disk: whatever is wrong with the inputs is found before that. Raises
    ConfigError, InputError, WeightsError, OutputError or DeviceError.
    """
    config.validate()
    if config.device == "gpu":
        raise DeviceError("--device gpu: this version has no GPU engine yet: give --device cpu")
    from howard.align.cpu import OpenCVAligner

    network, weights = open_network(config)
    with ExitStack() as opened:
        shot = opened.enter_context(closing(open_video(config.shot)))
        clean_plate = opened.enter_context(closing(open_video(config.clean_plate)))
        check_output_apart(config.out, shot.info, clean_plate.info)
        identity = {
            "shot": identify(config.shot, shot.info.files),
            "clean_plate": identify(config.clean_plate, clean_plate.info.files),
            "network": config.network,
            "weights": identify(weights[0], weights),
            "plate_search": config.plate_search,
            "batch": config.batch,
            "device": "cpu",
        }
        journal = Journal(config.out, identity, config.overwrite)
        aligner = OpenCVAligner(
            shot.info, clean_plate, journal.last_alignment(), config.align_options
        )
        opened.pop_all()
    return Stages(shot, clean_plate, aligner, network, journal, config.batch)


def open_network(config: RunConfig) -> tuple[MattingNetwork, tuple[Path, ...]]:
    """The network that the config names, and the files of its weights, its own first."""
    from howard.matte.cpu import OnnxMattingNetwork

    threads = config.threads or len(os.sched_getaffinity(0))
    weights = config.weights or default_weights(config.network)
    if config.network != "context-switching":
        return OnnxMattingNetwork(weights, threads), (weights,)
    from howard.matte.context_switching import ContextSwitchingNetwork

    first = default_weights()
    coarse = OnnxMattingNetwork(first, threads)
    return ContextSwitchingNetwork(weights, coarse, threads), (weights, first)


def check_output_apart(out: Path, *inputs: VideoInfo) -> None:
    """OutputError if pictures that are read lie where pictures will be written."""
    for file in (file for info in inputs for file in info.files):
        if PICTURE.fullmatch(file.name) and file.resolve().parent == out.resolve():
            raise OutputError(f"{out} holds {file.name}, which is an input: choose another folder")


def identify(path: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Enough to notice that a file was added, removed or replaced, without reading it."""
    stats = [file.stat() for file in files]
    return {
        "path": str(path.absolute()),
        "files": len(stats),
        "bytes": sum(stat.st_size for stat in stats),
        "modified": max(stat.st_mtime_ns for stat in stats),
    }
