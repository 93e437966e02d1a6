"""What each head costs in training: channels, time, and memory of loss and gradient on 64x64 frames.

python benchmarks/likelihoods.py                # a table of all, on a GPU if there is one
python benchmarks/likelihoods.py --clips 4 categorical optimal_sigma
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import torch

from svg.likelihoods import REGISTRY, build


def measure(name: str, clips: int, frames: int) -> dict[str, float]:
    """Channels, seconds (of all cores together on a CPU) and peak memory (MiB beyond output and frames) of one head."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    likelihood = build(name).to(device)
    params = torch.randn(clips, frames, likelihood.param_channels, 64, 64, device=device, requires_grad=True)
    target = torch.randint(0, 256, (clips, frames, 3, 64, 64), device=device).to(torch.uint8)
    latents = {"offset": torch.randn(clips, frames, 64, device=device), "variance": torch.ones(64, device=device)}

    def step() -> float:
        params.grad = None
        started = clock()
        likelihood.loss(params, target, latents=latents, step=0).mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return clock() - started

    before = resident(device)
    step()
    seconds = min(step() for _ in range(2))
    return {"channels": likelihood.param_channels, "seconds": seconds, "MiB": peak(device) - before}


def resident(device: torch.device) -> float:
    """Memory in use (MiB)."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated() / 2**20
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def peak(device: torch.device) -> float:
    """The most memory ever in use (MiB)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(REGISTRY), help="likelihoods; all by default")
    parser.add_argument("--clips", type=int, default=16, help="batch size")
    parser.add_argument("--frames", type=int, default=11, help="explained frames of a clip")
    parser.add_argument("--threads", type=int, help="of PyTorch on a CPU [as PyTorch chooses]")
    parser.add_argument("--json", action="store_true", help="one likelihood, in this process")
    options = parser.parse_args()
    for name in options.names:
        if name not in REGISTRY:
            parser.error(f"{name} is unknown: choose from {', '.join(REGISTRY)}")
    if min(options.clips, options.frames) < 1:
        parser.error("--clips and --frames must be at least 1")
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.json:
        print(json.dumps(measure(options.names[0], options.clips, options.frames)))
        return
    print(f"| likelihood | channels | output (MiB) | loss and gradient (MiB) | seconds |\n|{'---|' * 5}")
    for name in options.names:  # a process each: the peak is of a process's whole life
        size = ["--clips", str(options.clips), "--frames", str(options.frames)]
        size += ["--threads", str(torch.get_num_threads())]
        done = subprocess.run([sys.executable, __file__, name, "--json", *size], capture_output=True, text=True)
        if done.returncode:
            print(f"| {name} | failed: {done.stderr.strip().splitlines()[-1] if done.stderr else 'killed'} |")
            continue
        row = json.loads(done.stdout)
        output = options.clips * options.frames * row["channels"] * 64 * 64 * 4 / 2**20
        print(f"| {name} | {row['channels']} | {output:.0f} | {row['MiB']:.0f} | {row['seconds']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
