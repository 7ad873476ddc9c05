"""Make the sample: shot.mp4, clean_plate.mp4 and truth.json, the same on every run.

    python sample/make_sample.py        # needs scikit-image (the dev extra) for the place

A camera that only turns and zooms sees a far place as a plane: the photograph is that plane, and
every frame is an exact homography of it. The person is warped and composited by `truth.py`, the
very code that the tests ask for the truth. Noise and H.264 come last.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

if __package__ in (None, ""):  # run as a script: the folder above is the project
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from sample.truth import CLEAN_PLATE, NUMBERS, SHOT, Pose, load_truth, project

WIDTH, HEIGHT, FRAMES_PER_SECOND = 1280, 720, 30
SIZE_LIMIT_BYTES = 8_000_000

# The place is held at twice the frame's resolution: cv2.remap rounds to 1/32 of its pixels.
PHOTO_ENLARGEMENT = 4.9
PHOTO_WIDTH, PHOTO_HEIGHT = 640, 427
# The angle of view is not known; 58 degrees across the photograph look right. Pixels of the place.
PLACE_FOCAL = 0.9 * PHOTO_WIDTH * PHOTO_ENLARGEMENT
FRAME_FOCAL = PLACE_FOCAL / 2

EXPOSURE_SHOT = (1.05, 1.00, 0.96)
EXPOSURE_CLEAN_PLATE = (0.88, 0.90, 0.97)
LIGHT_ON_PERSON = (0.84, 0.86, 0.92)
NOISE_SIGMA = 2.0 / 255
CONSTANT_RATE_FACTOR = "17"


@dataclass(frozen=True)
class Take:
    """How one video was held. Pairs are (start, end); angles in radians."""

    frames: int
    seed: int
    yaw: tuple[float, float]
    pitch: tuple[float, float]
    roll: tuple[float, float]
    zoom: tuple[float, float]


SHOT_TAKE = Take(150, 11, (-0.050, 0.052), (0.064, 0.050), (-0.024, 0.016), (1.00, 1.045))
CLEAN_PLATE_TAKE = Take(120, 29, (-0.057, 0.047), (0.056, 0.062), (0.010, -0.018), (1.025, 0.985))


def smooth_noise(
    random: np.random.Generator, frames: int, seconds: float, amplitude: float
) -> NDArray[np.float64]:
    """(frames,) noise of that standard deviation, with no wiggle much shorter than `seconds`."""
    sigma = seconds * FRAMES_PER_SECOND
    reach = int(np.ceil(4 * sigma))
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel /= np.sqrt(np.sum(kernel**2))
    return amplitude * np.convolve(random.standard_normal(frames + 2 * reach), kernel, "valid")


def held_by_hand(
    random: np.random.Generator, frames: int, ends: tuple[float, float], drift: float, tremor: float
) -> NDArray[np.float64]:
    """(frames,) from one end to the other, eased, with slow drift and quick tremor on top."""
    eased = (1 - np.cos(np.linspace(0, np.pi, frames))) / 2
    path = ends[0] + (ends[1] - ends[0]) * eased
    path += smooth_noise(random, frames, 0.5, drift)
    return path + smooth_noise(random, frames, 0.06, tremor)


def homographies_frame_from_place(take: Take) -> NDArray[np.float64]:
    """(frames, 3, 3): a camera on the spot turns and zooms, K R K_place⁻¹."""
    random = np.random.default_rng(take.seed)
    yaw = held_by_hand(random, take.frames, take.yaw, 0.0035, 0.0004)
    pitch = held_by_hand(random, take.frames, take.pitch, 0.0035, 0.0005)
    roll = held_by_hand(random, take.frames, take.roll, 0.0040, 0.0005)
    zoom = held_by_hand(random, take.frames, take.zoom, 0.0040, 0.0)
    place_size = PHOTO_ENLARGEMENT * np.array([PHOTO_WIDTH, PHOTO_HEIGHT])
    from_place = np.linalg.inv(camera_matrix(PLACE_FOCAL, (place_size - 1) / 2))
    centre = np.array([WIDTH - 1, HEIGHT - 1]) / 2
    homographies = []
    for i in range(take.frames):
        turn = rotation(2, roll[i]) @ rotation(0, pitch[i]) @ rotation(1, -yaw[i])
        homography = camera_matrix(FRAME_FOCAL * zoom[i], centre) @ turn @ from_place
        homographies.append(homography / homography[2, 2])
    return np.stack(homographies)


def camera_matrix(focal: float, centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """3×3 pinhole camera; focal length and principal point in pixels."""
    return np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])


def rotation(axis: int, radians: float) -> NDArray[np.float64]:
    """3×3 rotation about axis 0, 1 or 2."""
    return cv2.Rodrigues(np.eye(3)[axis] * radians)[0]


def poses(homographies: NDArray[np.float64]) -> list[Pose]:
    """The person stands at one point of the place and sways, leans, nods, lifts the helmet."""
    frames = len(homographies)
    random = np.random.default_rng(47)
    spot = project(np.linalg.inv(homographies[frames // 2]), np.array([470.0, 790.0]))
    right = spot + np.array([1.0, 0.0])
    feet = np.array([project(h, spot) for h in homographies])
    along = np.array([project(h, right) for h in homographies]) - feet
    scale = 1.46 * np.hypot(*along.T) / np.hypot(*along[frames // 2])
    scale *= 1 + smooth_noise(random, frames, 0.6, 0.006)
    step = smooth_noise(random, frames, 0.7, 12.0)
    roll = np.arctan2(along[:, 1], along[:, 0]) + smooth_noise(random, frames, 0.5, 0.010)
    bend = smooth_noise(random, frames, 0.5, 9.0)
    head_x = smooth_noise(random, frames, 0.35, 6.0)
    head_y = smooth_noise(random, frames, 0.3, 2.5)
    helmet_y = smooth_noise(random, frames, 0.4, 4.0)
    columns = (feet[:, 0] + step, feet[:, 1], scale, roll, bend, head_x, head_y, helmet_y)
    return [Pose(*map(float, row)) for row in zip(*columns, strict=True)]


def write_truth() -> None:
    """Draw both camera paths and the person's motion, and write `truth.json`."""
    shot = homographies_frame_from_place(SHOT_TAKE)
    clean_plate = homographies_frame_from_place(CLEAN_PLATE_TAKE)
    numbers = {
        "width": WIDTH,
        "height": HEIGHT,
        "frames_per_second": FRAMES_PER_SECOND,
        "exposure_shot": EXPOSURE_SHOT,
        "exposure_clean_plate": EXPOSURE_CLEAN_PLATE,
        "light_on_person": LIGHT_ON_PERSON,
        "poses": [astuple(pose) for pose in poses(shot)],
        "homographies_shot_from_place": shot.reshape(-1, 9).tolist(),
        "homographies_clean_plate_from_place": clean_plate.reshape(-1, 9).tolist(),
    }
    # One line for each row of numbers: short diffs, no line of 50 kB.
    NUMBERS.write_text(json.dumps(numbers).replace("], [", "],\n[").replace(', "', ',\n"') + "\n")


def render_place() -> NDArray[np.float32]:
    """The photograph as a plane, (2092, 3136, 3) RGB in [0, 1]: cleaned, enlarged, textured."""
    photo = cv2.fastNlMeansDenoisingColored(data.rocket(), None, 2, 4, 5, 15)
    photo = photo.astype(np.float32) / 255
    size = (round(PHOTO_WIDTH * PHOTO_ENLARGEMENT), round(PHOTO_HEIGHT * PHOTO_ENLARGEMENT))
    place = np.clip(cv2.resize(photo, size, interpolation=cv2.INTER_LANCZOS4), 0, 1)
    place += 0.8 * (place - cv2.GaussianBlur(place, (0, 0), 5.0))  # unsharp
    # Dusk is dark: this gamma shows sky and steel without burning the lamps.
    place = np.clip(place, 0, 1) ** 0.75
    # An enlarged photograph has no detail finer than its own pixels: add some, fixed to the place.
    random = np.random.default_rng(5)
    for sigma, strength in ((1.5, 0.008), (4.0, 0.006)):
        white = random.standard_normal(size[::-1], np.float32)
        grain = cv2.GaussianBlur(white, (0, 0), sigma)
        place += (strength / grain.std() * grain)[..., None]
    return np.clip(place, 0, 1)


def view(
    place: NDArray[np.float32], homography: NDArray[np.float64], exposure: NDArray[np.float64]
) -> NDArray[np.float32]:
    """(H, W, 3) RGB in [0, 1]: the place as a camera sees it through frame_from_place."""
    grid = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    xy = project(np.linalg.inv(homography), np.stack(grid, axis=-1).astype(np.float64))
    if xy.min() < 0 or (xy.max(axis=(0, 1)) > np.array(place.shape[1::-1]) - 1).any():
        raise ValueError(f"a frame looks past the photograph: {xy.min((0, 1))}, {xy.max((0, 1))}")
    x, y = np.moveaxis(xy, -1, 0).astype(np.float32)
    return np.clip(cv2.remap(place, x, y, cv2.INTER_CUBIC) * exposure.astype(np.float32), 0, 1)


def shot_frames(place: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """(H, W, 3) RGB in [0, 1], before noise: the person composited over the place."""
    truth = load_truth()
    for i, homography in enumerate(truth.homographies_shot_from_place):
        alpha = truth.alpha(i)[..., None]
        behind = view(place, homography, truth.exposure_shot)
        yield alpha * truth.foreground(i) + (1 - alpha) * behind


def clean_plate_frames(place: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """(H, W, 3) RGB in [0, 1], before noise: the place alone."""
    truth = load_truth()
    for homography in truth.homographies_clean_plate_from_place:
        yield view(place, homography, truth.exposure_clean_plate)


def yuv420_from_rgb(rgb: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W, 3) RGB in [0, 1] to (3 H / 2, W): Y, Cb, Cr of BT.709, limited range.

    In floats, so that none of swscale's rounding comes between truth and file. Chroma lies on the
    left luma column of its pair and between the rows, as H.264 assumes where nothing is said.
    """
    luma = rgb @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    planes: list[NDArray] = [16 + 219 * luma]
    for channel, span in ((2, 1.8556), (0, 1.5748)):
        full = (rgb[..., channel] - luma) / span
        rows = (full[0::2] + full[1::2]) / 2
        chroma = cv2.sepFilter2D(rows, -1, np.array([0.25, 0.5, 0.25]), np.ones(1))[:, ::2]
        planes.append((128 + 224 * chroma).reshape(-1, rgb.shape[1]))
    return np.round(np.concatenate(planes)).astype(np.uint8)


def write_video(path: Path, frames: Iterator[NDArray[np.float32]], seed: int) -> None:
    """Add sensor noise and encode as H.264: 4:2:0, BT.709, limited range, and tagged as such."""
    random = np.random.default_rng(seed)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        # The number of threads changes x264's decisions: fix it.
        stream.options = {"crf": CONSTANT_RATE_FACTOR, "preset": "slow", "threads": "2"}
        codec = stream.codec_context
        codec.colorspace = codec.color_primaries = codec.color_trc = 1  # BT.709
        codec.color_range = 1  # limited
        for i, pixels in enumerate(frames):
            noise = random.standard_normal(pixels.shape, np.float32) * np.float32(NOISE_SIGMA)
            planes = yuv420_from_rgb(np.clip(pixels + noise, 0, 1))
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.colorspace, frame.color_range = 1, 1
            frame.pts, frame.time_base = i, Fraction(1, FRAMES_PER_SECOND)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def main() -> None:
    """Write the three files and say how large they became."""
    write_truth()
    place = render_place()
    write_video(SHOT, shot_frames(place), seed=101)
    write_video(CLEAN_PLATE, clean_plate_frames(place), seed=202)
    sizes = {path.name: path.stat().st_size for path in (SHOT, CLEAN_PLATE)}
    print(*(f"{name}: {size / 1e6:.2f} MB" for name, size in sizes.items()), sep="\n")
    if sum(sizes.values()) > SIZE_LIMIT_BYTES:
        raise SystemExit(f"the videos exceed {SIZE_LIMIT_BYTES} bytes: raise CONSTANT_RATE_FACTOR")


if __name__ == "__main__":
    main()
