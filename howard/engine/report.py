"""What a run did, in numbers: for the caller, and as report.json's totals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from howard.engine.journal import Journal
from howard.engine.records import Row


@dataclass(frozen=True)
class RunReport:
    """What a run did; the whole of it is in OUT/report.json."""

    device: str
    frames: int
    seconds: float
    frames_per_second: float
    peak_memory_mb: float
    resumed: int
    fallbacks: int
    warnings: list[str]

    @property
    def totals(self) -> Row:
        """As report.json has them: there, device and warnings stand by themselves."""
        return {k: v for k, v in asdict(self).items() if k not in ("device", "warnings")}


def finish(
    journal: Journal,
    seconds: float,
    resumed: int,
    peak_memory_mb: float,
    warnings: Iterable[str],
    more: Row,
) -> RunReport:
    """Complete the journal of a run that took `seconds`. more: of its totals, beside ours."""
    frames = len(journal.offsets)
    report = RunReport(
        device=journal.run["device"],
        frames=frames,
        seconds=round(seconds, 3),
        frames_per_second=round((frames - resumed) / seconds, 3),
        peak_memory_mb=round(peak_memory_mb, 1),
        resumed=resumed,
        fallbacks=journal.fallbacks(),
        warnings=list(dict.fromkeys(warnings)),
    )
    journal.finish(report.warnings, report.totals | more)
    return report
