"""The stages of a run, built for its device."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import Any, SupportsFloat

from howard.align import Aligner
from howard.align.mismatch import Mismatch
from howard.config import RunConfig
from howard.decode import VideoReader
from howard.engine.bars import Bars, without_bars
from howard.engine.device import Device, Weights, open_device
from howard.engine.inputs import check_inputs, identify_run, within
from howard.engine.journal import Journal
from howard.engine.report import RunReport, finish
from howard.engine.timing import peak_memory_mb
from howard.errors import ConfigError
from howard.frames import Frame, PendingRgba, Plate, VideoInfo
from howard.matte import MattingNetwork


@dataclass(frozen=True)
class Share:
    """Milliseconds of one of several frames that were timed together."""

    watch: SupportsFloat
    frames: int

    def __float__(self) -> float:
        return float(self.watch) / self.frames


@dataclass
class Stages:
    """Decode, align, matte, pack, each timed; and the journal of what is finished."""

    device: Device
    shot: VideoReader
    clean_plate: VideoReader
    aligner: Aligner
    network: MattingNetwork
    steady: Callable[[int, Plate, Any], Any]
    presence: Callable[[Any], Any]
    packer: Callable[[int, Any], PendingRgba]
    journal: Journal
    mismatch: Mismatch
    batch: int
    """Frames per call of the network; halved where the device has too little memory."""
    wanted: range
    """Indices of the frames to make."""
    bars: Bars | None = None
    """Black ones, which the stages do not see."""
    draws: bool = False
    """Whether the aligner draws debug pictures."""
    skipped: int = 0
    """Wanted frames that were finished already, before this call."""
    seen: tuple[Plate, Any] | None = None
    """The latest plate that was matted, and where its person may be: for the aligner."""
    thread: ThreadPoolExecutor = field(
        default_factory=partial(ThreadPoolExecutor, 1, "howard-align"), repr=False
    )
    """Aligns ahead."""
    started: float = field(default_factory=time.monotonic)
    warnings: list[str] = field(default_factory=list)

    @property
    def info(self) -> VideoInfo:
        return self.shot.info

    @property
    def total(self) -> int | None:
        """Number of wanted frames, as far as known."""
        there = within(self.wanted, self.info)
        return None if there is None else len(there)

    @property
    def resumed(self) -> int:
        """Number of wanted frames that are finished already."""
        return sum(index in self.wanted for index in self.journal.offsets)

    def read(self) -> Iterator[list[Frame]]:
        """Batches of the wanted frames that are not finished yet."""
        batch: list[Frame] = []
        finished = frozenset(self.journal.offsets)
        for frame in self.shot.read_from(self.wanted.start, finished):
            if frame.index not in self.wanted:
                break
            batch.append(frame)
            if len(batch) >= self.batch:
                yield batch
                batch = []
        if batch:
            yield batch

    def aligned(self) -> Iterator[tuple[list[Frame], list[Plate]]]:
        """The same with their plates. Where the device has idle cores meanwhile, each batch is
        aligned while the one before is matted, and knows of the person in the one before that."""
        batches = self.read()

        def step(seen: tuple[Plate, Any] | None) -> tuple[list[Frame], list[Plate]] | None:
            if seen is not None:
                self.aligner.observe(*seen)
            frames = next(batches, None)
            return None if frames is None else (frames, self.align(frames))

        if not self.device.aligns_ahead:
            while (found := step(self.seen)) is not None:
                yield found
            return
        coming = self.thread.submit(step, None)
        while (found := coming.result()) is not None:
            coming = self.thread.submit(step, self.seen)
            yield found

    def align(self, frames: Sequence[Frame]) -> list[Plate]:
        plates = []
        for frame in frames:
            with self.device.stopwatch() as watch:
                plate = self.aligner(frame)
            self.mismatch.note(plate.alignment.keypoints, plate.alignment.fallback is None)
            ms = {"decode": frame.decode_milliseconds, "align": watch}
            alignment = self.bars.of_whole(plate.alignment) if self.bars else plate.alignment
            self.journal.begin(frame.index, frame.pts_seconds, alignment, **ms)
            plates.append(plate)
        return plates

    def matte(self, frames: Sequence[Frame], plates: Sequence[Plate]) -> Iterator[PendingRgba]:
        """Mattes, packed: of all frames at once, or of as many as the device's memory allows."""
        frames, plates = list(frames), list(plates)
        while frames:
            count = min(self.batch, len(frames))
            try:
                yield from self.matte_at_once(frames[:count], plates[:count])
            except MemoryError:  # DeviceMemoryError, or a library's own; before any picture
                if count == 1:
                    raise
                self.batch = count // 2
                self.warnings.append(
                    f"{self.device.name}: too little memory for {count} frames at once, went on "
                    f"with {self.batch}; --batch {self.batch} takes that from the start"
                )
            else:
                del frames[:count], plates[:count]

    def matte_at_once(
        self, frames: Sequence[Frame], plates: Sequence[Plate]
    ) -> Iterator[PendingRgba]:
        with self.device.stopwatch() as watch:
            found = zip(frames, plates, self.network(frames, plates), strict=True)
            mattes = [self.steady(f.index, plate, matte) for f, plate, matte in found]
        for matte in mattes:
            where = self.presence(matte)
        self.seen = plates[-1], where
        each = Share(watch, len(frames))
        self.journal.start()
        for frame, matte in zip(frames, mattes, strict=True):
            rgba = self.packer(frame.index, matte)
            self.journal.matted(frame.index, rgba.confidence, each)
            yield self.bars.around(rgba) if self.bars else rgba

    def report(self) -> RunReport:
        """Complete the report; call it when the writer has finished."""
        seconds = time.monotonic() - self.started
        for reader in (self.shot, self.aligner):  # ends their passes: then all warnings are there
            reader.close()
        stages = self.device, self.shot, self.clean_plate, self.mismatch, self.network, self
        warnings = [warning for stage in stages for warning in stage.warnings]
        warnings += self.not_there() + self.not_drawn()
        warnings += [self.bars.warning()] if self.bars else []
        resumed = self.journal.resumed
        totals = self.device.totals(max(1, len(self.journal.offsets) - resumed))
        more = {"batch": self.batch, **totals}
        return finish(self.journal, seconds, resumed, peak_memory_mb(), warnings, more)

    def not_there(self) -> list[str]:
        """A sentence, if the shot ended before frames that were asked for by number."""
        made = self.resumed
        is_open = self.wanted.stop == sys.maxsize
        if made and (is_open or made == len(self.wanted)):
            return []
        asked = f"{self.wanted.start}:{'' if is_open else self.wanted.stop}"
        return [f"{self.info.path} ends before all of --frames {asked}: {made} of them were made"]

    def not_drawn(self) -> list[str]:
        """A sentence, if debug pictures were asked for of frames that were finished before."""
        if not (self.draws and self.skipped):
            return []
        return [
            f"--debug: {self.skipped} of the frames were finished before and get no picture: give "
            "another OUT, or --overwrite"
        ]

    def __enter__(self) -> Stages:
        with ExitStack() as failed:
            failed.push(self.__exit__)
            self.journal.begin_writing()
            failed.pop_all()
        self.skipped = self.resumed
        return self

    def __exit__(self, *exception: object) -> None:
        with ExitStack() as closers:
            for stage in (self.device, self.journal, self.aligner, self.shot):
                closers.callback(stage.close)
            closers.callback(self.thread.shutdown)  # first: what aligns ahead uses the others


def as_it_is(index: int, plate: Plate, matte: Any) -> Any:
    """The matte."""
    return matte


def build_stages(config: RunConfig) -> Stages:
    """Open the inputs, load the network, and see what an earlier run left.

    Touches nothing on disk but the folder of debug pictures: whatever is wrong with the inputs is
    found before that. Raises
    ConfigError, InputError, WeightsError, OutputError or DeviceError.
    """
    config.validate()
    if config.gpus != 1:
        raise ConfigError(f"gpus is {config.gpus}, and this is one process: call run_in_ranges")
    device = open_device(config)
    weights = Weights.of(config)
    with ExitStack() as opened:
        opened.callback(device.close)
        shot = opened.enter_context(closing(device.open_video(config.shot)))
        clean_plate = opened.enter_context(closing(device.open_video(config.clean_plate)))
        check_inputs(config, shot.info, clean_plate.info)
        identity = identify_run(config, device.name, shot.info, clean_plate.info)
        shot, clean_plate, bars = without_bars(shot, clean_plate)
        batch = config.batch or device.batch(shot.info)
        network = device.open_network(weights, shot.info, batch)
        journal = Journal(config.out, identity, config.overwrite)
        there = within(config.wanted, shot.info)
        wanted = None if there is None else len(there)
        mismatch = Mismatch(config.shot, config.clean_plate, wanted, config.on_mismatch)
        for row in takewhile(lambda _: not mismatch.settled, journal.rows(sorted(journal.offsets))):
            mismatch.note(row["keypoints"], row["fallback"] is None)
        resume = journal.last_alignment(config.wanted.start)
        if resume and bars:
            resume = resume[0], bars.of_pictures(resume[1])
        aligner = device.open_aligner(shot.info, clean_plate, resume, config.align_options)
        steady = device.open_steady() if config.steady else as_it_is
        presence = device.open_presence()
        packer = device.open_packer(shot.info)
        opened.pop_all()
    return Stages(
        device=device,
        shot=shot,
        clean_plate=clean_plate,
        aligner=aligner,
        network=network,
        steady=steady,
        presence=presence,
        packer=packer,
        journal=journal,
        mismatch=mismatch,
        batch=batch,
        wanted=config.wanted,
        bars=bars,
        draws=config.debug is not None,
    )
