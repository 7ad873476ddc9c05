"""PNG sequences, written by a pool of threads."""

from __future__ import annotations

import time
from pathlib import Path
from queue import Queue
from threading import Lock, Thread

from howard.frames import PendingRgba
from howard.write import Written, frame_path
from howard.write.files import prepare_folder, write_whole
from howard.write.png import encode_rgba


class PngSequenceWriter:
    """OUTPUT/000000.png and on: each of `workers` threads packs, encodes and writes a picture.

    Up to 2 * workers pictures wait for them, then `submit` blocks. Threads are enough, since
    whatever takes long here releases the GIL.

    After the first error no picture begins any more. The workers outlive it and empty the queue,
    so that neither a blocked `submit` nor leaving can wait for ever.
    """

    def __init__(self, output: Path, workers: int, written: Written) -> None:
        """Raises OutputError if the folder cannot be made or written."""
        prepare_folder(output)
        self._output = output
        self._written = written
        self._reporting = Lock()
        self._failure: BaseException | None = None
        self._queue: Queue[PendingRgba | None] = Queue(2 * workers)
        self._threads = [
            Thread(target=self._work, name=f"howard-write-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, rgba: PendingRgba) -> None:
        """Queue a picture; blocks while the queue is full; raises a worker's earlier error."""
        if self._failure is not None:
            raise self._failure
        self._queue.put(rgba)

    def __enter__(self) -> PngSequenceWriter:
        return self

    def __exit__(self, kind: object, exception: BaseException | None, traceback: object) -> None:
        """Wait for the workers; raises the error of one, unless another is on its way already."""
        if exception is not None:
            self._fail(exception)
        # The queue is what tells when all is done. Thread.join does not: interrupted by Ctrl-C,
        # it takes a thread that still runs for a finished one (before Python 3.13).
        try:
            self._queue.join()
        except BaseException as interrupt:
            self._fail(interrupt)
            self._queue.join()
            raise
        finally:
            self._dismiss()
        if exception is None and self._failure is not None:
            raise self._failure

    def _dismiss(self) -> None:
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (rgba := self._queue.get()) is not None:
            try:
                if self._failure is None:
                    self._write(rgba)
            except BaseException as error:  # raised again in the caller's thread
                self._fail(error)
            finally:
                del rgba  # its memory is not to wait with the worker for the next one
                self._queue.task_done()

    def _write(self, rgba: PendingRgba) -> None:
        started = time.perf_counter()
        path = frame_path(self._output, rgba.index)
        write_whole(path, encode_rgba(rgba.result()))
        milliseconds = 1000 * (time.perf_counter() - started)
        with self._reporting:
            try:
                self._written(rgba.index, milliseconds)
            except OSError:  # nobody would know whose it is
                path.unlink(missing_ok=True)
                raise

    def _fail(self, error: BaseException) -> None:
        """Keep the first error, which keeps pictures from beginning."""
        self._failure = self._failure or error
