"""What eval.py's three commands can be told; each field's docstring is its help."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from svg.config import DataConfig, EvalConfig
from svg.evaluation.gallery import Rule


@dataclass(frozen=True)
class MetricsOptions:
    """What is evaluated."""

    checkpoint: list[str]
    """Runs, checkpoints, folders of save_pretrained, or Hub ids OWNER/NAME."""
    out: str | None = None
    """Folder for the results; by default RUN/eval, or runs/comparison for several checkpoints."""
    metrics: list[str] = field(default_factory=list)
    """Of psnr, ssim, lpips, ssim_svg, fvd, fid, likelihood, calibration; by default all but ssim_svg, and lpips, fvd
    and fid where their weights are at hand."""
    iwae: int = 0
    """Importance samples K of a second, tighter bound on the likelihood; 0 leaves it out."""
    refit: int = 128
    """Training windows over which a sigma that training fitted to its batches is refitted; 0 takes its running
    average."""
    data: DataConfig = field(default_factory=DataConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        for name in ("iwae", "refit"):
            if getattr(self, name) < 0:
                raise ValueError(f"--{name} is {getattr(self, name)}, but it must not be negative")


@dataclass(frozen=True)
class ExportOptions:
    """Which clips become files, and how."""

    checkpoint: str
    """Run, checkpoint, folder of save_pretrained, or Hub id OWNER/NAME."""
    out: str | None = None
    """Folder for the files; by default RUN/export."""
    clips: list[int] = field(default_factory=list)
    """Test clips by number; by default `pick` chooses."""
    pick: Rule = "first"
    """Best and worst are by PSNR of the best future, diverse by how much the futures differ; they draw the futures of
    all eval.clips."""
    count: int = 4
    """Clips to pick."""
    samples: int = 3
    """Futures shown besides the best one."""
    formats: list[str] = field(default_factory=lambda: ["gif", "mp4", "webp", "png"])
    """Of gif, mp4, webp, apng, png (a filmstrip) and npz (all eval.samples futures, for other metrics)."""
    scale: int = 2
    """Whole-number magnification."""
    columns: int = 0
    """Panels in a row; 0 puts all in one."""
    sigma: bool = True
    """Whether the last panel shows the predicted standard deviation (or how much the futures differ)."""
    fps: float = 0.0
    """Frames per second; 0 takes the data's."""
    data: DataConfig = field(default_factory=DataConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"--count is {self.count}, but it must be at least 1")


@dataclass(frozen=True)
class PredictOptions:
    """What is predicted."""

    checkpoint: str
    """Run, checkpoint, folder of save_pretrained, or Hub id OWNER/NAME."""
    video: str
    """Video file, GIF, or folder of images, which are taken in natural order."""
    out: str | None = None
    """Folder for the files; by default RUN/predict."""
    at: Literal["first", "last"] = "first"
    """Whether the video's first or last frames are the context."""
    crop: str = "center"
    """center: the largest square; none: the whole frame, squeezed; or LEFT,TOP,WIDTH,HEIGHT in pixels."""
    grey: bool = False
    """Turn a video in colour into grey for a model of grey frames."""
    samples: int = 4
    """Futures."""
    formats: list[str] = field(default_factory=lambda: ["gif", "mp4", "webp", "png"])
    """Of gif, mp4, webp, apng, png (a filmstrip) and npz."""
    scale: int = 3
    """Whole-number magnification."""
    columns: int = 0
    """Panels in a row; 0 puts all in one."""
    sigma: bool = True
    """Whether the last panel shows the predicted standard deviation (or how much the futures differ)."""
    fps: float = 0.0
    """Frames per second; 0 takes the video's."""
    eval: EvalConfig = field(default_factory=EvalConfig)
