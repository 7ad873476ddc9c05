"""Clips of any size and length out of the bundled sample, for timing only.

Scaled pictures have less detail than filmed ones, so keypoints and PNG sizes differ from life;
the decoder, the network and the warp have the same work.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
from av.video.frame import PictureType
from av.video.reformatter import Interpolation, VideoReformatter


def there_and_back(frames: int, available: int) -> list[int]:
    """`frames` indices that run 0 ... available - 1, back to 0 and so on: no cut at the turn."""
    period = max(2 * (available - 1), 1)
    return [min(i % period, period - i % period) for i in range(frames)]


def make_clip(source: Path, target: Path, frames: int, width: int, height: int) -> None:
    """Write `frames` frames of the source, scaled, as H.264 (4:2:0, 8-bit) with its rate."""
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        rate = Fraction(stream.average_rate or 30)
        pictures = list(islice(container.decode(stream), frames))
    scale = VideoReformatter()
    with av.open(str(target), "w") as output:
        encoder = output.add_stream("libx264", rate=rate, options={"preset": "fast", "crf": "18"})
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        # Howard reads colours by these tags; a clip without them would be another colour.
        for tag in ("colorspace", "color_range", "color_primaries", "color_trc"):
            setattr(encoder.codec_context, tag, getattr(stream.codec_context, tag))
        for number, index in enumerate(there_and_back(frames, len(pictures))):
            picture = scale.reformat(
                pictures[index], width, height, "yuv420p", interpolation=Interpolation.BICUBIC
            )
            picture.pts, picture.time_base = number, 1 / rate
            picture.pict_type = PictureType.NONE  # the source's key frames are not this clip's
            output.mux(encoder.encode(picture))
        output.mux(encoder.encode(None))


def frame_count(source: Path) -> int:
    """Frames of a video, counted by its packets."""
    with av.open(str(source)) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)
