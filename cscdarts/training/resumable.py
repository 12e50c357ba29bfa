"""What search and retraining share: a place in time, checkpoints, stopping when asked, compiling with a way back."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cscdarts.errors import BrokenFile, NumericalError, Stopped
from cscdarts.records.checkpoint import files_of, load_checkpoint, misfit, save_checkpoint
from cscdarts.records.damage import ASIDE, set_aside
from cscdarts.records.run_folder import RunFolder
from cscdarts.settings.config import EvaluationConfig, RunConfig, SearchConfig
from cscdarts.settings.keys import Key, Stage
from cscdarts.training.distributed import join_world, resolve_device, same_for_all
from cscdarts.training.memory import keep_freed_memory

#: Several processes agree on stopping only every few steps: agreement is a message.
_AGREE_EVERY = 20

#: What a search does that can be timed; the rest of its time is data, records and checkpoints.
Phase = Literal["architecture step", "weight step", "validation"]
#: Entered around each phase. On CUDA it has to wait for the device itself, or it measures launches.
Timer = Callable[[Phase], AbstractContextManager[None]]

_NOTHING = nullcontext()


def untimed(phase: Phase) -> AbstractContextManager[None]:
    """The timer that measures nothing: one shared object without state, entered for free."""
    return _NOTHING


def sgd(parameters: Sequence[nn.Parameter], settings: SearchConfig | EvaluationConfig) -> torch.optim.SGD:
    """SGD of the weights.

    Not `fused`: torch 2.14.1 on the CPU then takes a gradient for one in the weight's memory layout, which a gradient
    from a channels_last convolution is not, and steps by wrong numbers.
    """
    return torch.optim.SGD(
        parameters, settings.lr, settings.momentum, weight_decay=settings.weight_decay, nesterov=settings.nesterov
    )


def configure_process(config: RunConfig, threads: int | None = None) -> None:
    """Set this process up for a run: its number of threads (`threads` where the configuration names none), its
    allocator."""
    keep_freed_memory()
    threads = config.runtime.threads or threads
    if threads:
        torch.set_num_threads(threads)


class ResumableRun:
    """A stage under way.

    Attributes:
        stage: `search` or `retrain`; checkpoint: the name of its file; key: what its output answers for.
        epoch, step: where it stands; `step` steps of epoch `epoch` are done.
        seconds: of the finished epochs; epoch_seconds: of the present one.
    """

    stage: Stage
    checkpoint: str

    def __init__(
        self, config: RunConfig, folder: RunFolder, key: Key, stop: Callable[[], bool], report: Callable[[str], None]
    ) -> None:
        self.config, self.folder, self.key, self.stop, self.report = config, folder, key, stop, report
        self.world = join_world(config.runtime.device)
        self.device = resolve_device(config.runtime.device, self.world)
        if self.device.type == "cuda":
            _choose_kernels(config.runtime.deterministic)
        self.epoch, self.step = 0, 0
        self.seconds, self.epoch_seconds = 0.0, 0.0
        self._saved_at = time.monotonic()

    def state(self) -> dict[str, Any]:
        """All that moves, beside the place in time."""
        raise NotImplementedError

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        raise NotImplementedError

    def _whole_state(self) -> dict[str, Any]:
        place = {key: getattr(self, key) for key in ("stage", "epoch", "step", "seconds", "epoch_seconds")}
        return {"hash": self.key.id, **place, "rng": torch.get_rng_state(), **self.state()}

    def save(self) -> None:
        """Save everything that moves (by the leading process)."""
        if self.world.leads:
            save_checkpoint(self.folder.file(self.checkpoint), self._whole_state())
        self._saved_at = time.monotonic()

    def resume(self) -> None:
        """Go on from the newest good checkpoint, if there is one."""
        # Version 0.1.0 sealed checkpoints with the hash of the run, and its folders held all files themselves.
        keys = (self.key.id, self.config.hash) if self.folder.keys() is None else (self.key.id,)
        path = self.folder.file(self.checkpoint)
        try:
            state = load_checkpoint(path, keys, self.device, self.report, self._misfit)
        except BrokenFile:
            kept = [set_aside(one).name for one in files_of(path)] if self.world.leads else []
            self.report(f"{self.stage} starts afresh: no checkpoint is good; kept in {ASIDE}: {', '.join(kept)}")
            return
        if state is None:
            return
        for key in ("epoch", "step", "seconds", "epoch_seconds"):
            setattr(self, key, state[key])
        torch.set_rng_state(state["rng"].cpu())
        self.restore(state)
        self.report(f"{self.stage} resumed at epoch {self.epoch + 1}, step {self.step}")

    def _misfit(self, state: Mapping[str, Any]) -> str | None:
        """What keeps a checkpoint's state from being that of this stage, if anything does; nothing is taken over."""
        own = self._whole_state()
        optimisers = {name: one for name, one in vars(self).items() if isinstance(one, torch.optim.Optimizer)}
        why = misfit(state, {name: value for name, value in own.items() if name not in optimisers})
        if why is not None:
            return why
        if state["stage"] != self.stage:
            return f"it is that of a {state['stage']}"
        if min(state[name] for name in ("epoch", "step", "seconds", "epoch_seconds")) < 0:
            return "it stands before the beginning"
        last = {"search": self.config.search.all_epochs, "retrain": self.config.evaluation.epochs}[self.stage]
        if state["epoch"] > last:
            return f"it stands at epoch {state['epoch']} of {last}"
        return next((why for name, one in optimisers.items() if (why := _optimiser_misfit(state, name, one))), None)

    def pause_if_asked(self, started: float) -> None:
        """Between two steps: save when asked to stop or when the last checkpoint is old.

        Args:
            started: `time.monotonic()` at which this process took up the epoch.

        Errors:
            Stopped: after saving, when asked to stop.
        """
        alone = self.world.size == 1
        asked = same_for_all(self.stop(), self.world) if alone or self.step % _AGREE_EVERY == 0 else False
        # Clocks of several processes disagree; they save at the end of each epoch.
        due = alone and time.monotonic() - self._saved_at > self.config.runtime.checkpoint_minutes * 60
        if asked or due:
            spent = time.monotonic() - started
            self.epoch_seconds += spent
            self.save()
            self.epoch_seconds -= spent
        if asked:
            raise Stopped

    def next_epoch(self, epochs: int) -> None:
        """Close the books on an epoch: step on, save, and stop here when asked.

        Errors:
            Stopped: when asked to stop and epochs are left.
        """
        self.seconds += self.epoch_seconds
        self.epoch, self.step, self.epoch_seconds = self.epoch + 1, 0, 0.0
        self.save()
        if self.epoch < epochs and same_for_all(self.stop(), self.world):
            raise Stopped

    def broken(self, step: int, tensor: str) -> NumericalError:
        """The error for a tensor that is not finite; the state is saved as `broken.pt` first."""
        if self.world.leads:
            save_checkpoint(self.folder.stage_folder(self.stage) / "broken.pt", self._whole_state())
        return NumericalError(self.stage, self.epoch, step, tensor)


def _optimiser_misfit(state: Mapping[str, Any], name: str, optimiser: torch.optim.Optimizer) -> str | None:
    """As `misfit`, for the state of an optimiser: a fresh one has nothing for its parameters yet, so their shapes say
    what belongs to them."""
    found, groups = state.get(name), optimiser.param_groups
    form = [{"params": [0] * len(one["params"]), "lr": 0.1} for one in groups]
    why = misfit(found, {"state": {}, "param_groups": form}, name)
    if why is not None or found is None:
        return why or f"{name} is missing"
    parameters = [parameter for group in groups for parameter in group["params"]]
    for number, held in found["state"].items():
        if not isinstance(number, int) or not 0 <= number < len(parameters) or not isinstance(held, Mapping):
            return f"{name}.state has {number}, which is no parameter"
        for key, value in held.items():
            shape = parameters[number].shape
            if isinstance(value, Tensor) and value.numel() != 1 and value.shape != shape:
                return f"{name}.state.{number}.{key} has shape {tuple(value.shape)}, not {tuple(shape)}"
    return None


def _choose_kernels(deterministic: bool) -> None:
    """On CUDA: the same kernels after a resume as before it, or the fastest ones."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = not deterministic


def compiled(
    model: torch.nn.Module, call: Callable[..., Any], report: Callable[[str], None], graphs: bool = False
) -> Callable[[Tensor], Any]:
    """`call(model, images)` with the compiled model; if the first call fails, a line says so and the plain one goes on.

    A model is compiled in its first call. What fails later is the step, and its error is the caller's.

    Args:
        graphs: whether passes, forward and backward, are recorded as CUDA graphs and replayed: batches have one shape,
            and a supernet's many small kernels wait for their launches. What a pass gives lies in memory that the next
            one overwrites; whoever keeps it copies it.
    """
    mode = "reduce-overhead" if graphs else None
    state: dict[str, Any] = {"model": torch.compile(model, dynamic=False, mode=mode), "called": False}

    def forward(images: Tensor) -> Any:
        if graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        if not state["called"]:
            state["called"] = True
            try:
                return call(state["model"], images)
            except Exception as error:
                report(f"torch.compile failed ({type(error).__name__}); the run goes on without it")
                state["model"] = model
        return call(state["model"], images)

    return forward
