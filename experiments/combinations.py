"""Every likelihood under every objective, on video and on images: trained and evaluated, or refused with the reason.

Each combination goes through train.py and, where it is defined, eval.py, as typed: its refusal (exit code 2 and the
line) must be the one that the configuration's rules foretell; where it trains, every number of metrics.jsonl and
metrics.json must be finite. Models are tiny, clips and images few: what is shown is that it works, not how well.

Covered: all likelihoods with all objectives, for the video model and for the image VAE, each with a prior and a
posterior that the objective takes (`suited`); all priors and posteriors with all objectives, for three likelihoods; all
backbones with those that need no latents. Refused ones are run too.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import multiprocessing
import os
import shutil
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data import robot_push
from experiments import image_vae
from experiments.common import Row, Rows, parse, parser, publish
from svg import likelihoods
from svg.config import Config, command_line
from svg.objective import why_undefined
from svg.runtime.program import run as run_program

Options = dict[str, Any]
"""Of train.py, by their dotted names."""
Plan = dict[str, list[tuple[dict[str, str], dict[str, Options]]]]
"""Tables by title: rows of their labels and, by column, combinations."""

ROBOT = "datasets/robot_push_64_16"

MODELS: dict[str, Options] = {
    "svg": {
        "data.path": ROBOT,
        "data.frames": 3,
        "model.name": "svg",
        "model.backbone": "dcgan",
        "model.width": 2,
        "model.g_dim": 8,
        "model.z_dim": 3,
        "model.rnn_size": 16,
        "model.n_past": 1,
        "train.batch_size": 2,
    },
    "vae": {
        "data.name": "digits",
        "data.path": "datasets/digits",
        "data.frames": 1,
        "model.name": "vae",
        "model.backbone": "conv",
        "model.size": 32,
        "model.channels": 1,
        "model.width": 4,
        "model.z_dim": 3,
        "train.batch_size": 8,
    },
}
OBJECTIVES: dict[str, Options] = {
    "elbo": {"objective.name": "elbo"},
    "elbo, β = ½, warm-up": {"objective.name": "elbo", "objective.beta": 0.5, "objective.beta_warmup": 100},
    "bilbo": {"objective.name": "bilbo"},
    "ae": {"objective.name": "ae"},
    "rae": {"objective.name": "rae", "objective.options.gradient_penalty": 0.01},
    "wae_mmd": {"objective.name": "wae_mmd"},
    "dip_vae": {"objective.name": "dip_vae", "objective.options.kind": "ii"},
}
SOME = ("optimal_sigma", "pixel_sigma", "baggins")
"""Likelihoods that meet every prior and posterior: a fitted scale, a map, and the one that needs the latents."""
LATENTS = [
    *(("svg", prior, "diagonal") for prior in ("learned", "learned_mean", "fixed", "none")),
    *(("svg", prior, "constant") for prior in ("learned", "learned_mean", "fixed", "none")),
    *(("svg", "learned", posterior) for posterior in ("isotropic", "deterministic")),
    *(("vae", "fixed", posterior) for posterior in ("diagonal", "isotropic", "constant", "deterministic")),
    ("vae", "learned", "diagonal"),
]
"""Models, priors and posteriors."""
BACKBONES = [("svg", "dcgan"), ("svg", "vgg"), ("vae", "conv"), ("vae", "mlp"), ("vae", "linear")]
EVALUATION = (
    *("--iwae", "2", "--eval.samples", "2", "--eval.clips", "4"),
    *("--eval.horizon", "3", "--eval.samplers", "prior", "floating"),
)
VIDEO_EVALUATION = (*EVALUATION, "--metrics", "psnr", "likelihood")


def suited(model: str, objective: str, likelihood: str) -> Options:
    """A prior and a posterior of that model for which the objective is defined, if there are any."""
    name = OBJECTIVES[objective]["objective.name"]
    constant = name == "bilbo" or (likelihood == "baggins" and name not in ("ae", "rae"))
    posterior = "constant" if constant else "deterministic" if model == "vae" and name in ("ae", "rae") else "diagonal"
    prior = "fixed" if model == "vae" else "learned_mean" if constant else "learned"
    return {"model.prior": prior, "model.posterior": posterior}


def of_likelihood(name: str) -> Options:
    """A likelihood, with what it takes to be seen whole in a few steps."""
    special: dict[str, Options] = {
        "two_stage_sigma": {"steps": 1, "gain": 1e3},  # stage 2 begins with the second validation
        "scheduled_sigma": {"schedule": [[0, 1.0], [100, 0.1]]},
    }
    return {"likelihood.name": name} | {
        f"likelihood.options.{option}": value for option, value in special.get(name, {}).items()
    }


def foretold(arguments: Sequence[str]) -> str | None:
    """Why a combination is undefined, by the configuration's own rules; None where it is defined."""
    try:
        config = command_line.parse(Config, arguments, program="train.py", description="")
    except ValueError as error:
        return str(error)
    return why_undefined(config.model, config.objective.name, config.likelihood.name)


def start_server() -> None:
    """Starts the process, unless it runs, that has imported both programs and from which the others are forked."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["train", "eval"])
    with contextlib.chdir(Path(__file__).parents[1]):  # where it finds them
        forkserver.ensure_running()


def call(program: str, arguments: Sequence[str], log: Path) -> int:
    """Runs train or eval, whose imports are shared by all runs, in a process of its own; gives its exit code.

    What it prints is in `log`.
    """
    start_server()
    process = multiprocessing.get_context("forkserver").Process(target=_run, args=(program, arguments, log))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _run(program: str, arguments: Sequence[str], log: Path) -> None:
    with log.open("w") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    sys.argv = [f"{program}.py", *arguments]
    run_program(importlib.import_module(program).main)


def run(combination: Options, options: Namespace) -> Row:
    """Trains and evaluates a combination, or sees it refused: a row with `reason`, or with `loss` and `numbers`.

    Raises:
        ValueError: it failed, met a number that is not finite, or was not refused as foretold.
    """
    out, quarter = Path(options.rows) / "combinations", max(1, options.steps // 4)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    settings = combination | {"train.steps": options.steps, "train.warmup": options.steps // 10, "train.lr": 2e-3}
    settings |= {"train.eval_every": quarter, "train.eval_clips": 4, "train.save_every": quarter}
    settings |= {"train.out": out / "run", "data.workers": 0, "eval.horizon": 3, "eval.gifs": 1}
    typed = ["--train.trackers", *(part for name, value in settings.items() for part in (f"--{name}", str(value)))]
    command, log = f"train.py {' '.join(typed)}", out / "log"

    reason, code = foretold(typed), call("train", typed, log)
    said = log.read_text().strip().splitlines() or [f"exit code {code}"]
    if reason is not None:
        if (code, said[-1]) != (2, f"error: {reason}"):
            raise ValueError(f"{command} should say {reason!r}, but says {said[-1]!r} (exit code {code})")
        return {"reason": reason}
    if code == 0:
        evaluation = EVALUATION if combination["model.name"] == "vae" else VIDEO_EVALUATION
        code = call("eval", ["--checkpoint", str(out / "run"), *evaluation], log)
        said = log.read_text().strip().splitlines() or [f"exit code {code}"]
    if code:
        raise ValueError(f"{command} failed ({code}): {said[-1]}")
    training = [json.loads(line) for line in (out / "run/metrics.jsonl").read_text().splitlines()]
    measured = json.loads((out / "run/eval/metrics.json").read_text())
    found = dict(numbers({"metrics.jsonl": training, "metrics.json": measured}))
    for name, value in found.items():
        if not math.isfinite(value):
            raise ValueError(f"{command}: {name} is {value}")
    return {"loss": training[-1]["loss"], "numbers": len(found)}


def numbers(value: Any, name: str = "") -> Iterator[tuple[str, float]]:
    """Every number in JSON's containers, with where it is."""
    if isinstance(value, Mapping | list):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from numbers(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, int | float):
        yield name, value


def planned(names: Sequence[str]) -> Plan:
    """The tables of these likelihoods."""

    def objectives(model: str, likelihood: str, latents: Options | None = None) -> dict[str, Options]:
        return {
            name: combination(model, likelihood, name, latents or suited(model, name, likelihood))
            for name in OBJECTIVES
        }

    plan: Plan = {
        f"{title}: every likelihood with every objective": [
            ({"likelihood": f"`{name}`"}, objectives(model, name)) for name in names
        ]
        for title, model in (("Video", "svg"), ("Images", "vae"))
    }
    some = [name for name in SOME if name in names]
    for likelihood in some:
        plan[f"Every prior and posterior, with `{likelihood}`"] = [
            (
                {"model": model, "prior": prior, "posterior": posterior},
                objectives(model, likelihood, {"model.prior": prior, "model.posterior": posterior}),
            )
            for model, prior, posterior in LATENTS
        ]
    if not some:
        return plan
    plan["Every backbone, `elbo`"] = [
        (
            {"model": model, "backbone": backbone},
            {
                f"`{name}`": combination(model, name, "elbo", suited(model, "elbo", name))
                | {"model.backbone": backbone}
                for name in some
            },
        )
        for model, backbone in BACKBONES
    ]
    return plan


def combination(model: str, likelihood: str, objective: str, latents: Options) -> Options:
    """All options of a combination."""
    return MODELS[model] | latents | OBJECTIVES[objective] | of_likelihood(likelihood)


def key(combination: Options) -> str:
    """The name of a combination's row."""
    names = ("model.name", "model.backbone", "model.prior", "model.posterior", "objective.name", "likelihood.name")
    weight = combination.get("objective.beta")
    return " ".join([*(combination[name] for name in names), *([f"beta {weight}"] if weight else [])])


def make_data() -> None:
    """Makes the digits and the clips of the simulated robot where they are missing."""
    image_vae.digits("train")
    if not Path(ROBOT).exists():
        robot_push.make(ROBOT, clips=16, val_clips=4, test_clips=4, frames=6, workers=1)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the combinations that are missing and publishes the tables."""
    made = parser("combinations", __doc__)
    made.add_argument("--steps", type=int, default=200, help="of each run [%(default)s]")
    made.add_argument("--likelihoods", nargs="+", default=list(likelihoods.REGISTRY), help="some of them only")
    options = parse(made, argv, {"steps": 4, "likelihoods": ["laplace"]})
    start_server()
    make_data()

    plan = planned(options.likelihoods)
    wanted = {key(cell): cell for table in plan.values() for _, cells in table for cell in cells.values()}
    rows = Rows(options, len(wanted))
    found: dict[str, Row] = {}
    failed = 0
    for name, cell in wanted.items():
        try:
            found[name] = rows.get(name, partial(run, cell, options))
        except ValueError as error:
            failed += 1
            tqdm.write(f"failed: {error}")
    if failed:
        raise ValueError(f"{failed} of {len(wanted)} combinations failed; the same command tries them again")

    reasons = list(dict.fromkeys(row["reason"] for row in found.values() if "reason" in row))
    tables: dict[str, list[Row]] = {
        f"{title} (training loss at the end, nats a frame)": [
            labels | {column: shown(found[key(cell)], reasons) for column, cell in cells.items()}
            for labels, cells in table
        ]
        for title, table in plan.items()
    }
    trained = [row for row in found.values() if "loss" in row]
    tables["Reasons"] = [{"": f"({i})", "train.py says": f"error: {reason}"} for i, reason in enumerate(reasons, 1)]
    tables["In all"] = [
        {
            "combinations": len(found),
            "trained and evaluated": len(trained),
            "steps each": options.steps,
            "numbers checked": sum(row["numbers"] for row in trained),
            "not finite": 0,
            "refused with the reason": len(found) - len(trained),
        }
    ]
    publish(options, rows, tables)


def shown(row: Row, reasons: Sequence[str]) -> str:
    """A cell: the loss, or the number of the reason."""
    return f"{row['loss']:.0f}" if "loss" in row else f"refused ({reasons.index(row['reason']) + 1})"


if __name__ == "__main__":
    run_program(main)
