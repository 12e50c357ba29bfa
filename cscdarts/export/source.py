"""What is exported: the network that a run has trained, or that of a genotype with weights as they are drawn."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cscdarts import __version__
from cscdarts.errors import BrokenFile, MissingFile, UserError
from cscdarts.export.card import CODE_LICENCE, WEIGHTS_DRAWN, WEIGHTS_OF_DATA, Card, Data, Result, Run
from cscdarts.export.classifier import Classifier, exported_tensors, weights_sha256
from cscdarts.export.shape import Shape, recorded_shape
from cscdarts.models.cost import fit_channels, network_cost
from cscdarts.models.network import Network
from cscdarts.records.checkpoint import load_checkpoint, misfit
from cscdarts.records.code import Code
from cscdarts.records.run_folder import RunFolder, read_record
from cscdarts.settings.config import RunConfig, hashed_values
from cscdarts.settings.keys import retraining_key, search_key
from cscdarts.spaces import Genotype, parse_genotype
from cscdarts.spaces.known import KNOWN_GENOTYPES
from cscdarts.training.retrain import initial_network

Report = Callable[[str], None]


def of_run(folder: RunFolder, report: Report, data_root: Path | None = None) -> Classifier:
    """The network that a run has trained, as it stood after its last epoch.

    Args:
        report: called with each sentence that a user should read.
        data_root: see `cscdarts.export.shape.recorded_shape`.

    Errors:
        UserError: the run has not finished, a file of it is missing, torn or of another run.
    """
    config = folder.config()
    genotype, result = _finished(folder, config)
    state = _final_state(folder, config, result, report)
    evaluation = config.evaluation.model_copy(update={"channels": int(result["channels"])})
    record = result["data"]
    if state is None:
        shape = recorded_shape(config, record, _channels_of(folder, config, record, data_root), data_root)
    else:
        shape = recorded_shape(config, record, _image_channels(state), data_root)
    network = initial_network(
        genotype, evaluation, config.supernet, config.identity_in("eval"), shape.classes, shape.channels, shape.size,
        seed=_seed(config),
    )  # fmt: skip
    if state is not None:
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise BrokenFile(
                folder.file("retrain.pt"), " ".join(str(error).split())[:200], "a checkpoint of the run's own network",
                "Start the run again in an empty folder.",
            ) from None  # fmt: skip
    if shape.mean is None:
        report("the run does not record the normalisation of its images; --data-root FOLDER lets the card tell it")
    card = _card(network, genotype, config, evaluation.channels, shape)
    values, label = result["values"], str(record["label"])
    known = {key: record[key] for key in ("train_images", "test_images", "notes") if key in record}
    amp = config.evaluation.amp
    told = {
        "trained": True,
        "data": Data(
            label=label, dataset=str(record["dataset"]), sha256=str(record["sha256"]),
            fingerprint=config.data.fingerprint, **known,
        ),
        "result": Result(
            test_error_pct=values["test_error_pct"], test_top5_error_pct=values.get("test_top5_error_pct"),
            epochs=config.evaluation.epochs, scale=config.labels.scale,
        ),
        "run": Run(
            hash=config.hash, search=_search(folder, config), retraining=retraining_key(config, str(genotype)).id,
            seed=config.seed, method=config.labels.method, commit=_commit(folder),
        ),
        "licence": (CODE_LICENCE, WEIGHTS_OF_DATA.format(label=label)),
        "remarks": () if amp == "none" else (f"The test error was measured under {amp} autocast; this is float32.",),
    }  # fmt: skip
    return Classifier(network, card.model_copy(update=told))


def of_genotype(genotype: Genotype, config: RunConfig, shape: Shape, code: Code) -> Classifier:
    """The network of a genotype as a retraining would begin with it: untrained, from the configuration's seed.

    Args:
        config: its space is the genotype's.
        code: that draws the weights.

    Errors:
        UserError: the configuration asks for fewer multiply-accumulates than the cell can have.
    """
    evaluation, identity = config.evaluation, config.identity_in("eval")
    form = (config.supernet, identity, shape.classes, shape.channels, shape.size)
    if evaluation.fit_macs_m is not None:
        width = fit_channels(genotype, evaluation, *form, limit_macs=evaluation.fit_macs_m * 1e6)
        evaluation = evaluation.model_copy(update={"channels": width})
    network = initial_network(genotype, evaluation, *form, seed=_seed(config))
    card = _card(network, genotype, config, evaluation.channels, shape)
    remark = "The network is untrained: its answers mean nothing, and no error is stated."
    drawn = f" The weights were drawn by commit {code.frozen}." if code.frozen else ""
    return Classifier(network, card.model_copy(update={"remarks": (remark + drawn,)}))


def network_of(card: Card) -> Network:
    """A network of the card's form, without auxiliary head, with whatever weights.

    Errors:
        UserError: the card's configuration or genotype is not valid here.
    """
    from cscdarts.settings.overrides import build

    config = build(card.config)
    evaluation = config.evaluation.model_copy(update={"channels": card.channels, "auxiliary": 0.0})
    return initial_network(
        card.cell, evaluation, config.supernet, config.identity_in("eval"), card.classes, card.images.channels,
        card.images.size, seed=0,
    )  # fmt: skip


def _card(network: Network, genotype: Genotype, config: RunConfig, channels: int, shape: Shape) -> Card:
    network.auxiliary, network.auxiliary_after = None, -1
    evaluation = config.evaluation.model_copy(update={"channels": channels})
    cost = network_cost(
        genotype, evaluation, config.supernet, config.identity_in("eval"), shape.classes, shape.channels, shape.size
    )
    return Card(
        made_by=f"cscdarts {__version__}",
        trained=False,
        space=genotype.space,
        genotype=str(genotype),
        known_as=next((name for name, cell in KNOWN_GENOTYPES.items() if cell == genotype), ""),
        config=hashed_values(config),
        channels=channels,
        seed=_seed(config),
        images=shape.images,
        classes=shape.classes,
        class_names=shape.class_names,
        params=cost.params,
        macs=cost.macs,
        weights_sha256=weights_sha256(exported_tensors(network)),
        licence=(CODE_LICENCE, WEIGHTS_DRAWN),
    )


def _seed(config: RunConfig) -> int:
    return config.seed if config.evaluation.seed is None else config.evaluation.seed


def _search(folder: RunFolder, config: RunConfig) -> str:
    """The key of the search that the cell comes from."""
    keys = folder.keys()
    return search_key(config).id if keys is None else str(keys["search"])


def _finished(folder: RunFolder, config: RunConfig) -> tuple[Genotype, Mapping[str, Any]]:
    """The genotype and the result of a run that has come to its end."""
    derived = read_record(folder.file("genotype.json"))
    if derived is None:
        raise MissingFile(folder.path, "Its search has not finished; start the run again to go on.", "genotype.json")
    cell = folder.file("genotype.json")
    untrained = f"cscdarts export {cell} gives the cell's network untrained."
    result = read_record(folder.file("result.json"))
    if result is None:
        if not config.runtime.retrain:
            fix = "It was made to end without retraining (runtime.retrain=false)."
        elif folder.file("retrain.pt").exists():
            fix = "Its retraining has not finished; start the run again to go on."
        else:
            fix = "It has searched only; start the run again to retrain its cell."
        raise MissingFile(folder.path, f"{fix} {untrained}", "result.json")
    lacks = [name for name in ("genotype", "channels", "data") if name not in result]
    lacks += [f"data.{name}" for name in ("label", "dataset", "sha256") if name not in result.get("data", {})]
    if lacks:
        raise BrokenFile(folder.file("result.json"), f"it has no {lacks[0]}", "a whole result", "Retrain the cell.")
    genotype = parse_genotype(str(derived["text"]), derived.get("space"))
    trained = str(result["genotype"])
    if trained != str(genotype):
        raise UserError(
            str(cell), str(genotype), f"{trained}, which result.json is of",
            "The weights belong to that cell; put the run's own genotype.json back.",
        )  # fmt: skip
    # Version 0.1.0 names the run in place of the retraining's key.
    wanted, found = (retraining_key(config, trained).id, result["key"]) if "key" in result else (
        config.hash, result["hash"]
    )  # fmt: skip
    if found != wanted:
        raise UserError(
            str(folder.file("result.json")), f"of {found}", f"the result of {wanted}",
            "Result and config.json are of different runs; take the folder as it was written.",
        )  # fmt: skip
    return genotype, result


def _final_state(
    folder: RunFolder, config: RunConfig, result: Mapping[str, Any], report: Report
) -> Mapping[str, Tensor] | None:
    """The weights after the last epoch; None for a run of no epoch, whose weights are those it drew."""
    path, epochs = folder.file("retrain.pt"), config.evaluation.epochs
    if epochs == 0:
        return None
    keys = (retraining_key(config, str(result["genotype"])).id, config.hash)
    form = {"stage": "retrain", "epoch": 0, "step": 0, "network": {}}
    state = load_checkpoint(path, keys, torch.device("cpu"), report, lambda found: misfit(found, form))
    if state is None:
        raise MissingFile(
            folder.path, f"It holds the weights; retrain in an empty folder to have them again. "
            f"cscdarts export {folder.file('genotype.json')} gives the cell's network untrained.", path.name,
        )  # fmt: skip
    if state["stage"] != "retrain":
        raise BrokenFile(path, f"it is that of a {state['stage']}", "the checkpoint of a retraining", "Put it back.")
    if (state["epoch"], state["step"]) != (epochs, 0):
        raise BrokenFile(
            path, f"it stands at epoch {state['epoch']} of {epochs}, step {state['step']}",
            "the checkpoint of a finished retraining", "Move result.json away and start the run again to finish it.",
        )  # fmt: skip
    weights: Mapping[str, Tensor] = state["network"]
    return weights


def _image_channels(state: Mapping[str, Tensor]) -> int:
    """Channels of the images, as the first convolution of the stem has them."""
    return next(int(value.shape[1]) for name, value in state.items() if re.match(r"stem0?\.0\.weight", name))


def _channels_of(folder: RunFolder, config: RunConfig, record: Mapping[str, Any], data_root: Path | None) -> int:
    """Channels of the images of a run that has no weights to tell it: its statistics do, or its data."""
    if "mean" in record:
        return len(record["mean"])
    from cscdarts.export.shape import read_shape

    return read_shape(config, data_root or Path(config.runtime.data_root)).channels


def _commit(folder: RunFolder) -> str:
    environment = read_record(folder.file("environment.json")) or {}
    commit = environment.get("commit")
    return f"{commit}{'+dirty' if environment.get('dirty') else ''}" if commit else ""
