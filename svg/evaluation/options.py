"""What eval.py's commands can be told; each field's docstring is its help."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from svg.config import DataConfig, EvalConfig
from svg.config.options import NotEmpty, Range, check_fields
from svg.conformal import LEVELS, clips_needed
from svg.evaluation.gallery import Rule


@dataclass(frozen=True)
class MetricsOptions:
    """What is evaluated."""

    checkpoint: Annotated[list[str], NotEmpty()]
    """Runs, checkpoints, folders of save_pretrained, or Hub ids OWNER/NAME."""
    out: Annotated[str | None, NotEmpty()] = None
    """Folder for the results; by default RUN/eval, or runs/comparison for several checkpoints."""
    metrics: list[str] = field(default_factory=list)
    """Of psnr, ssim, lpips, ssim_svg, fvd, fid, likelihood, calibration; by default all but ssim_svg, and lpips, fvd
    and fid where their weights are at hand."""
    iwae: Annotated[int, Range(0, 10**6)] = 0
    """Importance samples K of a second, tighter bound on the likelihood; 0 leaves it out."""
    refit: Annotated[int, Range(0, 10**7)] = 128
    """Training windows over which a sigma that training fitted to its batches is refitted; 0 takes its running
    average."""
    split: Literal["test", "val"] = "test"
    """Whose clips: val is for choosing among models, so that the test clips choose nothing."""
    calibrated: bool = True
    """Also measure the calibrated futures of models that eval.py calibrate has calibrated."""
    verify: bool = False
    """Compare every byte of the test clips with their checksums first; metrics.json says what was compared."""
    data: DataConfig = field(default_factory=DataConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        check_fields(self, "--")


@dataclass(frozen=True)
class CalibrateOptions:
    """What is calibrated, and by what."""

    checkpoint: Annotated[str, NotEmpty()]
    """Run, checkpoint, or folder of save_pretrained; the calibration is written beside it."""
    clips: Annotated[int, Range(2, 10**7)] = 128
    """Validation clips, at most: half of them fit, the other half make the intervals."""
    levels: list[float] = field(default_factory=lambda: list(LEVELS))
    """Of the intervals, between 0 and 1."""
    data: DataConfig = field(default_factory=DataConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        check_fields(self, "--")
        for level in self.levels:
            try:
                clips_needed(level)
            except ValueError as error:
                raise ValueError(f"--levels: {error}") from None


@dataclass(frozen=True)
class ExportOptions:
    """Which clips become files, and how."""

    checkpoint: Annotated[str, NotEmpty()]
    """Run, checkpoint, folder of save_pretrained, or Hub id OWNER/NAME."""
    out: Annotated[str | None, NotEmpty()] = None
    """Folder for the files; by default RUN/export."""
    clips: list[int] = field(default_factory=list)
    """Test clips by number; by default `pick` chooses."""
    pick: Rule = "first"
    """Best and worst are by PSNR of the best future, diverse by how much the futures differ; they draw the futures of
    all eval.clips."""
    count: Annotated[int, Range(1, 10**6)] = 4
    """Clips to pick."""
    samples: Annotated[int, Range(1, 10**6)] = 3
    """Futures shown besides the best one."""
    formats: list[str] = field(default_factory=lambda: ["gif", "mp4", "webp", "png"])
    """Of gif, mp4, webp, apng, png (a filmstrip) and npz (all eval.samples futures, for other metrics)."""
    scale: Annotated[int, Range(1, 64)] = 2
    """Whole-number magnification."""
    columns: Annotated[int, Range(0, 10**4)] = 0
    """Panels in a row; 0 puts all in one."""
    sigma: bool = True
    """Whether the last panel shows the predicted standard deviation (or how much the futures differ)."""
    fps: Annotated[float, Range(0.01, 1000, or_zero=True)] = 0.0
    """Frames per second; 0 takes the data's."""
    data: DataConfig = field(default_factory=DataConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        check_fields(self, "--")


@dataclass(frozen=True)
class PredictOptions:
    """What is predicted."""

    checkpoint: Annotated[str, NotEmpty()]
    """Run, checkpoint, folder of save_pretrained, or Hub id OWNER/NAME."""
    video: Annotated[str, NotEmpty()]
    """Video file, GIF, or folder of images, which are taken in natural order."""
    out: Annotated[str | None, NotEmpty()] = None
    """Folder for the files; by default RUN/predict."""
    at: Literal["first", "last"] = "first"
    """Whether the video's first or last frames are the context."""
    crop: str = "center"
    """center: the largest square; none: the whole frame, squeezed; or LEFT,TOP,WIDTH,HEIGHT in pixels."""
    grey: bool = False
    """Turn a video in colour into grey for a model of grey frames."""
    samples: Annotated[int, Range(1, 10**6)] = 4
    """Futures."""
    formats: list[str] = field(default_factory=lambda: ["gif", "mp4", "webp", "png"])
    """Of gif, mp4, webp, apng, png (a filmstrip) and npz."""
    scale: Annotated[int, Range(1, 64)] = 3
    """Whole-number magnification."""
    columns: Annotated[int, Range(0, 10**4)] = 0
    """Panels in a row; 0 puts all in one."""
    sigma: bool = True
    """Whether the last panel shows the predicted standard deviation (or how much the futures differ)."""
    fps: Annotated[float, Range(0.01, 1000, or_zero=True)] = 0.0
    """Frames per second; 0 takes the video's."""
    eval: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        check_fields(self, "--")
