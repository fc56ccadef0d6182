"""Speed and memory of training and prediction (Yue et al., AAAI 2024, table 5).

Each measurement runs in a separate process, so that peak memory is measured separately: `python -m` this module reads the
measurement to make from stdin, as JSON, and prints the result.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from surgicalsam_napari.errors import SurgicalSAMError, TrainingError
from surgicalsam_napari.exchange.files import write_file
from surgicalsam_training.config import TrainingConfig, parse_config
from surgicalsam_training.experiments.scoring import opened_data
from surgicalsam_training.experiments.setting import Setting
from surgicalsam_training.experiments.stage import Stage
from surgicalsam_training.loop.prompts import PromptLosses
from surgicalsam_training.loop.sampling import PromptSampler
from surgicalsam_training.loop.steps import take_step
from surgicalsam_training.loop.tuning import starting_model, unfreeze
from surgicalsam_training.scoring.evaluate import embed_missing
from surgicalsam_training.scoring.published import PAPER, published_table
from surgicalsam_training.scoring.tables import Table

OURS = "SurgicalSAM"
BATCHES = (2, 16, 32)
SECONDS = 20.0  # minimum duration of a measurement
FEWEST = 3  # steps, or frames
FRAMES = 64  # predicted in turn


def table5(setting: Setting, seconds: float = SECONDS) -> Generator[Stage, None, Table]:
    """Training at several batch sizes, prediction with and without the image encoder; on the CPU, and on CUDA if available.

    Parameters
    ----------
    seconds : minimum duration of each measurement
    """
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    yield from _embed(setting.config)
    wanted = [("training", device, batch) for device in devices for batch in BATCHES]
    wanted += [("prediction", device, 1) for device in devices]
    rows: list[tuple[object, ...]] = []
    for done, (what, device, batch) in enumerate(wanted):
        yield Stage(f"measuring {what} on {device}", done, len(wanted))
        config = setting.config.changed(device=device, batch_size=batch, micro_batch_size=batch, presence_weight=0.0)
        measured = _measured(setting.out / "speed", what, config, seconds)
        title, peak = measured["device"], measured["peak_bytes"]
        memory = None if peak is None else round(peak / 1e9, 3)
        if what == "training":
            rows.append((OURS, f"training, batch {batch}", title, round(measured["per_second"], 3), "prompts", memory))
            continue
        for way, rate in measured["per_second_by_way"].items():
            shown = None if rate is None else round(rate, 3)
            rows.append((OURS, f"prediction, embedding {way}", title, shown, "frames", memory))
    yield Stage("measuring", len(wanted), len(wanted))
    return Table(
        "Table 5: speed, and peak memory of the process or of the GPU",
        ("Method", "What", "Device", "Per second", "Of", "GB"),
        (*rows, *_papers_rows()),
        (
            *setting.notes,
            "training: complete optimiser steps with the paper's two losses, from embeddings on disk. A prompt is a class "
            "in a frame; all prompts of a batch are computed at once.",
            "prediction: label maps of all classes, frame by frame. online: from the picture, without reading it; offline: "
            "from its embedding on disk. Both alternate frame by frame in one process.",
            f"published: copied from {PAPER}, {published_table('table5')['source']}; its memory is that of the GPU.",
            f"PyTorch {torch.__version__}.",
        ),
        decimals=2,
    )


def _papers_rows() -> list[tuple[object, ...]]:
    table = published_table("table5")
    device = f"{table['device']}, published"
    training = [
        (row["method"], f"training, batch {row['batch']}", device, row["per_second"], "frames", row["gigabytes"])
        for row in table["training"]
    ]
    prediction = [
        (row["method"], f"prediction, embedding {row['embedding']}", device, row["per_second"], "frames", None)
        for row in table["prediction"]
    ]
    return [*training, *prediction]


def _embed(config: TrainingConfig) -> Generator[Stage, None, None]:
    """Compute the embeddings that the measurements read from disk."""
    with opened_data(config, None) as opened:
        model = starting_model(config, opened.data.classes)
        for report in embed_missing(model, opened.data, sorted({*opened.training, *opened.validation})):
            yield Stage("embedding frames", report.done, report.total)


def _measured(folder: Path, what: str, config: TrainingConfig, seconds: float) -> dict[str, Any]:
    """A stored measurement of this machine from this folder, or a new one."""
    request = {"what": what, "config": config.model_dump(mode="json"), "seconds": seconds, "machine": _machine()}
    file = folder / f"{what}-{config.device}-batch{config.batch_size}.json"
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        kept = {}
    if kept.get("told") == request:
        return kept["found"]
    process = subprocess.run(
        [sys.executable, "-m", "surgicalsam_training.experiments.speed"],
        input=json.dumps(request), capture_output=True, text=True,
    )  # fmt: skip
    if process.returncode:
        lines = process.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"exit code {process.returncode}"
        raise TrainingError(f"Measuring {what} on {config.device} failed ({reason}). Fix this, or choose another device.")
    measured = json.loads(process.stdout.splitlines()[-1])
    write_file(file, (json.dumps({"told": request, "found": measured}, indent=1) + "\n").encode())
    return measured


def _machine() -> str:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA"
    return f"{platform.node()} {platform.machine()} {os.cpu_count()} {torch.get_num_threads()} {gpu} {torch.__version__}"


# In the measuring process --------------------------------------------------------------------------------------------


def measure_training(config: TrainingConfig, seconds: float) -> dict[str, Any]:
    """Prompts per second in complete optimiser steps, and the peak memory."""
    with opened_data(config, None) as opened:
        model = starting_model(config, opened.data.classes)
        model.image_encoder = None  # training reads embeddings
        sampler = PromptSampler(opened.data, opened.training, model, config)
        optimizer = torch.optim.Adam(unfreeze(model, config), config.learning_rate, weight_decay=config.weight_decay)
        losses = PromptLosses(model, config).to(model.device).train()
        whole = [step for step in sampler.steps(0) if len(step) == config.batch_size]
        if not whole:
            raise TrainingError(
                f"A batch of {config.batch_size} needs as many prompts; there are {len(sampler.present)}. Use more data."
            )
        take_step(losses, optimizer, sampler, whole[0], 0)  # warm-up: the first step is slower
        steps, started = 0, _now()
        while steps < FEWEST or _now() - started < seconds:
            take_step(losses, optimizer, sampler, whole[steps % len(whole)], 0)
            steps += 1
        rate = steps * config.batch_size / (_now() - started)
        return {"per_second": rate, "peak_bytes": _peak_bytes(), "device": _device_title(config)}


def measure_prediction(config: TrainingConfig, seconds: float) -> dict[str, Any]:
    """Frames per second from pictures and from embeddings on disk; None from pictures if the data have none."""
    with opened_data(config, None) as opened:
        data, example_indices = opened.data, opened.validation[:FRAMES]
        model = starting_model(config, opened.data.classes)
        images = [data.image(example_index) for example_index in example_indices]
        spent, counts = {"online": 0.0, "offline": 0.0}, {"online": 0, "offline": 0}
        turn = -1  # the first, slower turn does not count
        while turn < FEWEST or sum(spent.values()) < seconds:
            turn_index = turn % len(example_indices)
            image, size = images[turn_index], data.frames[example_indices[turn_index]].size
            for way in spent:
                if way == "online" and image is None:
                    continue
                started = _now()
                if way == "online" and image is not None:
                    embeddings = model.embed([np.asarray(image)])
                else:
                    embeddings = data.embeddings([example_indices[turn_index]], 0, model)
                model.predict(embeddings, data.classes.ids, size)
                if turn >= 0:
                    spent[way], counts[way] = spent[way] + _now() - started, counts[way] + 1
            turn += 1
        rates = {way: counts[way] / spent[way] if counts[way] else None for way in spent}
        return {"per_second_by_way": rates, "peak_bytes": _peak_bytes(), "device": _device_title(config)}


def _now() -> float:
    """Seconds, after all GPU work is finished."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def _peak_bytes() -> int | None:
    """Peak memory of the GPU's allocator if it was used, otherwise of this process; None if unknown."""
    if torch.cuda.is_available() and torch.cuda.is_initialized() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    try:  # on Linux ru_maxrss includes the parent before exec
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
    except (OSError, StopIteration):
        pass
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _device_title(config: TrainingConfig) -> str:
    return torch.cuda.get_device_name() if config.device.startswith("cuda") else f"CPU, {torch.get_num_threads()} threads"


def main() -> int:
    request = json.load(sys.stdin)
    measure = {"training": measure_training, "prediction": measure_prediction}[request["what"]]
    try:
        print(json.dumps(measure(parse_config(request["config"]), request["seconds"])))
    except SurgicalSAMError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
