"""The cheap way of making model pixels, held against what `weights.transforms()` means."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torchvision.models.video import MViT_V2_S_Weights, R3D_18_Weights, S3D_Weights
from torchvision.transforms import functional

from indexer.decode.preprocess import Sampler, quarter_turns, resized_size
from indexer.records import ClipGeometry
from tests.videos import Picture, pattern, write_video

R3D = ClipGeometry(16, 15, (128, 171), (112, 112))
MVIT = ClipGeometry(16, 7.5, (256,), (224, 224))
BT601, BT709, LIMITED, FULL = 5, 1, 1, 2


def as_torchvision(rgb: Picture, geometry: ClipGeometry) -> Picture:
    """Resize and centre crop of torchvision's VideoClassification preset, before it normalises."""
    frames = torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None]
    resized = functional.resize(frames, list(geometry.resize), antialias=False)
    cropped: Picture = functional.center_crop(resized, list(geometry.crop))[0].permute(1, 2, 0).numpy()
    return cropped


def noisy(number: int) -> Picture:
    """Textured like real footage: steps, ramps and a little noise."""
    noise = np.random.default_rng(number).integers(0, 30, (360, 640, 3), dtype=np.uint8)
    return np.clip(pattern(number * 3, width=640, height=360).astype(int) + noise - 15, 0, 255).astype(np.uint8)


def difference(left: Picture, right: Picture) -> float:
    return float(np.abs(left.astype(int) - right.astype(int)).mean())


@pytest.mark.parametrize("weights", [R3D_18_Weights, MViT_V2_S_Weights, S3D_Weights])
def test_the_exact_way_is_torchvisions_preset(weights: type) -> None:
    preset = weights.KINETICS400_V1.transforms()  # type: ignore[attr-defined]
    geometry = ClipGeometry(16, 15, tuple(preset.resize_size), (preset.crop_size[0], preset.crop_size[0]))
    frames = np.stack([noisy(number) for number in range(3)])
    ours = np.stack([Sampler(geometry).from_rgb(frame) for frame in frames])
    scaled = torch.from_numpy(ours).permute(3, 0, 1, 2).float() / 255
    mean, std = torch.tensor(preset.mean).view(3, 1, 1, 1), torch.tensor(preset.std).view(3, 1, 1, 1)
    theirs = preset(torch.from_numpy(frames).permute(0, 3, 1, 2))
    steps = (((scaled - mean) / std - theirs) * std * 255).abs()
    # A value that falls on a half is rounded by the last bit of a float: one step of 255, once in a thousand pixels.
    assert steps.max() <= 1.01
    assert (steps > 0.01).float().mean() <= 0.001


@pytest.mark.parametrize("geometry", [R3D, MVIT], ids=["112", "224"])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p"])
@pytest.mark.parametrize("colorspace", [BT601, BT709], ids=["bt601", "bt709"])
@pytest.mark.parametrize("color_range", [LIMITED, FULL], ids=["limited", "full"])
def test_sampled_planes_agree_with_full_rgb(
    tmp_path: Path, geometry: ClipGeometry, pix_fmt: str, colorspace: int, color_range: int
) -> None:
    path = write_video(
        tmp_path / "v.mp4", frames=4, width=640, height=360, pix_fmt=pix_fmt, picture=noisy, colorspace=colorspace,
        color_range=color_range, options={"crf": "10"},
    )  # fmt: skip
    sampler = Sampler(geometry)
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    assert {(f.format.name.replace("yuvj", "yuv"), int(f.colorspace), int(f.color_range)) for f in frames} == {
        (pix_fmt, colorspace, color_range)
    }
    for frame in frames:
        reference = as_torchvision(frame.to_ndarray(format="rgb24"), geometry)
        assert difference(sampler.from_frame(frame), reference) <= 1.5


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le"])
@pytest.mark.parametrize("color_range", [LIMITED, FULL], ids=["limited", "full"])
def test_samples_of_more_bits_show_the_same_picture_and_are_not_converted_whole(pix_fmt: str, color_range: int) -> None:
    """Held against the picture itself: swscale makes 10-bit 4:2:0 darker by two steps of 255."""
    eight, more = (
        av.VideoFrame.from_ndarray(noisy(3), format="rgb24").reformat(
            format=name, dst_colorspace=BT709, dst_color_range=color_range
        )
        for name in (pix_fmt[: pix_fmt.index("p") + 1], pix_fmt)
    )
    assert (more.format.name, more.color_range) == (pix_fmt, color_range)
    ours = Sampler(MVIT).from_frame(_OnlyPlanes(more))  # type: ignore[arg-type]
    assert difference(ours, Sampler(MVIT).from_frame(eight)) <= 0.8
    assert abs((ours - as_torchvision(noisy(3), MVIT).astype(float)).mean()) <= 0.3


def test_other_pixel_formats_take_the_exact_way() -> None:
    frame = av.VideoFrame.from_ndarray(noisy(3), format="rgb24").reformat(format="yuv411p")
    reference = as_torchvision(frame.to_ndarray(format="rgb24"), R3D)
    assert difference(Sampler(R3D).from_frame(frame), reference) < 0.001


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_turned_pictures_come_out_upright(turns: int) -> None:
    stored = noisy(1)
    shown = np.rot90(stored, turns)
    assert difference(Sampler(MVIT).from_rgb(stored, quarter_turns=turns), as_torchvision(shown, MVIT)) < 0.001


def test_turned_planes_come_out_like_turned_rgb(tmp_path: Path) -> None:
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        stream.set_display_rotation(90)
        for number in range(2):
            frame = av.VideoFrame.from_ndarray(noisy(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert quarter_turns(frame) == 1
    shown = np.rot90(frame.to_ndarray(format="rgb24"), 1)
    assert difference(Sampler(MVIT).from_frame(frame), as_torchvision(shown, MVIT)) <= 1.5


def test_wide_pixels_are_shown_wide() -> None:
    """A picture stored at half its shown width gives the crop of the picture as shown."""
    shown = pattern(5, width=640, height=360)
    stored = np.ascontiguousarray(shown[:, ::2])
    ours = Sampler(MVIT, aspect=2.0).from_rgb(stored)
    assert difference(ours, as_torchvision(shown, MVIT)) <= 2.0
    assert difference(Sampler(MVIT).from_rgb(stored), as_torchvision(shown, MVIT)) > 10.0


def test_of_an_interlaced_frame_one_field_is_shown() -> None:
    """Two moments woven into one frame: only the first may be seen, no comb of both."""
    woven = np.empty((480, 640, 3), np.uint8)
    woven[0::2], woven[1::2] = 60, 180
    frame = av.VideoFrame.from_ndarray(woven, format="rgb24").reformat(format="yuv420p")
    assert not frame.interlaced_frame
    combed = Sampler(R3D).from_frame(frame)
    assert 80 < combed.mean() < 160
    field = Sampler(R3D)._from_planes(_Interlaced(frame), 1, 1, 8)  # type: ignore[arg-type]
    assert abs(float(field.mean()) - 60) < 3


def test_a_field_is_shown_also_of_pixel_formats_without_a_short_way() -> None:
    woven = np.empty((480, 640, 3), np.uint8)
    woven[0::2], woven[1::2] = 60, 180
    frame = av.VideoFrame.from_ndarray(woven, format="rgb24")
    assert set(np.unique(Sampler(R3D).from_frame(_Interlaced(frame)))) == {60}  # type: ignore[arg-type]


def test_a_field_is_not_taken_for_a_picture_of_its_height() -> None:
    """The lines of a field lie twice as far apart: it is cropped as a frame is, and not as a wide picture."""
    frame, small = (
        av.VideoFrame.from_ndarray(pattern(5, width=640, height=height), format="rgb24").reformat(format="yuv420p")
        for height in (480, 240)
    )
    sampler = Sampler(MVIT)
    for stored in (small, _Interlaced(frame), small, frame):
        as_first = Sampler(MVIT).from_frame(stored)  # type: ignore[arg-type]
        assert difference(sampler.from_frame(stored), as_first) == 0  # type: ignore[arg-type]


class _Frame:
    """A frame that subclasses make a little different."""

    def __init__(self, frame: av.VideoFrame) -> None:
        self._frame = frame

    def __getattr__(self, name: str) -> object:
        return getattr(self._frame, name)


class _Interlaced(_Frame):
    """With the interlaced flag, which PyAV cannot set."""

    interlaced_frame = True


class _OnlyPlanes(_Frame):
    """Cannot be converted whole."""

    to_ndarray = reformat = None


@pytest.mark.parametrize(
    ("height", "width", "resize", "expected"),
    [
        (360, 640, (128, 171), (128, 171)),
        (360, 640, (256,), (256, 455)),
        (640, 360, (256,), (455, 256)),
        (256, 256, (256,), (256, 256)),
    ],
)
def test_resized_size_is_torchvisions(height: int, width: int, resize: tuple[int, ...], expected: tuple[int, int]) -> None:
    assert resized_size(height, width, resize) == expected
    resized = functional.resize(torch.zeros(1, 3, height, width), list(resize), antialias=False)
    assert tuple(resized.shape[-2:]) == expected
