"""`python -m ufp4 tensorboard`: metrics.jsonl as TensorBoard event files, one folder a run."""

from pathlib import Path

from ufp4 import InputError
from ufp4.runs import STEP_KEYS, load


def write_events(folder: Path, out: Path) -> Path:
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        raise InputError("the tensorboard package is not installed; pip install 'ufp4[tensorboard]' brings it") from error
    experiment = load(folder)
    for run in experiment.runs:
        points = [(step, f"train/{key}", run.steps[step][key]) for step in run.steps for key in STEP_KEYS if key in run.steps[step]]
        points += [(step, "validation/loss", loss) for step, loss in run.validation.items()]
        target = out / run.folder.name if len(experiment.runs) > 1 else out
        # A run folder may come from elsewhere, with a link to a folder that is not its own.
        for place in (out, target):
            if place.is_symlink() and place.is_relative_to(folder):
                raise InputError(f"{place}: is a link; name the folder of the event files with --out")
        # Event files only grow: those of an earlier export would show every point twice.
        for old in target.glob("events.out.tfevents.*"):
            old.unlink()
        writer = EventFileWriter(str(target))
        for step, tag, value in sorted(points):
            writer.add_event(Event(step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)])))
        writer.close()
    return out
