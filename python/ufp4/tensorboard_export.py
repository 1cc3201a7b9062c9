"""`python -m ufp4 tensorboard`: metrics.jsonl as TensorBoard event files, one folder a run; also while runs go on."""

import time
from pathlib import Path

from ufp4 import InputError
from ufp4.runs import STEP_KEYS, Experiment, Run, load


def write_events(folder: Path, out: Path) -> Path:
    writers = _Writers(folder, out)
    writers.add(load(folder))
    writers.close()
    return out


def follow_events(folder: Path, out: Path, seconds: int, wait=time.sleep) -> Path:
    """Adds what is new again and again until the run is done."""
    writers = _Writers(folder, out)
    try:
        while True:
            done = any((folder / name).exists() for name in ("result.json", "compare.json"))
            writers.add(load(folder))
            if done:
                return out
            wait(seconds)
    finally:
        writers.close()


def _points(run: Run) -> list[tuple[int, str, float]]:
    points = [(step, f"train/{key}", run.steps[step][key]) for step in run.steps for key in STEP_KEYS if key in run.steps[step]]
    return sorted(points + [(step, "validation/loss", loss) for step, loss in run.validation.items()])


class _Writers:
    """The event files of an experiment, which only grow."""

    def __init__(self, folder: Path, out: Path):
        try:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise InputError("the tensorboard package is not installed; pip install 'ufp4[tensorboard]' brings it") from error
        self._event, self._summary, self._writer = Event, Summary, EventFileWriter
        self._folder, self._out = folder, out
        self._open: dict[Path, object] = {}
        self._written: dict[Path, set[tuple[int, str]]] = {}

    def add(self, experiment: Experiment) -> None:
        for run in experiment.runs:
            target = self._out / run.folder.name if len(experiment.runs) > 1 else self._out
            if target not in self._open:
                self._begin(target)
            writer, written = self._open[target], self._written[target]
            for step, tag, value in _points(run):
                if (step, tag) in written:
                    continue
                written.add((step, tag))
                summary = self._summary(value=[self._summary.Value(tag=tag, simple_value=value)])
                writer.add_event(self._event(step=step, summary=summary))
            writer.flush()

    def _begin(self, target: Path) -> None:
        # A run folder may come from elsewhere, with a link to a folder that is not its own.
        for place in (self._out, target):
            if place.is_symlink() and place.is_relative_to(self._folder):
                raise InputError(f"{place}: is a link; name the folder of the event files with --out")
        # Event files only grow: those of an earlier export would show every point twice.
        for old in target.glob("events.out.tfevents.*"):
            old.unlink()
        self._open[target] = self._writer(str(target))
        self._written[target] = set()

    def close(self) -> None:
        for writer in self._open.values():
            writer.close()
