"""The card of an exported network: what it is, what it has learned from, how well, and how to use it. No torch.

It stands as JSON in the file itself, where the file's format has a place for such text, and as Markdown beside it.
"""

import json
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cscdarts.spaces import Genotype, parse_genotype

#: The card's name in a file's own metadata.
KEY = "cscdarts"
#: First line of the card beside a file: what begins so is ours and may be replaced.
MARK = "<!-- card of a network that cscdarts exported -->"

CODE_LICENCE = "The code that made this network is under the MIT licence, (c) 2026 The cscdarts maintainers."
WEIGHTS_OF_DATA = "The weights are learned from {label} and inherit the terms of that data set."
WEIGHTS_DRAWN = "The weights are drawn at random and owe nothing to any data set."
NOT_THE_PAPERS = (
    "No number here is that of the CSC-DARTS paper (Information Sciences 720, 2025, 122538), which is closed: they are "
    "this run's own."
)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")


class Images(_Part):
    """The images that the network takes: (value - mean) / std of values in [0, 1], float32 (n, channels, size, size).

    Attributes:
        size: side in pixels.
        order: of the channels.
        mean, std: by channel; None where they are not known.
    """

    channels: int = Field(ge=1)
    size: int = Field(ge=1)
    order: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


class Data(_Part):
    """The data set that the network was trained on and tested on.

    Attributes:
        label: as printed beside numbers; dataset: its name in the configuration.
        sha256: of pixels and labels, or of the list of files where images were streamed.
        fingerprint: of the files, where the configuration names it.
        notes: what was odd about the data when the training began.
    """

    label: str
    dataset: str
    sha256: str
    fingerprint: str = ""
    train_images: int | None = None
    test_images: int | None = None
    notes: tuple[str, ...] = ()


class Result(_Part):
    """What the test of the trained network gave, in percent, after its last epoch.

    Attributes:
        scale: of the recipe: `paper`, `reduced`, `smoke`.
    """

    test_error_pct: float
    test_top5_error_pct: float | None = None
    epochs: int
    scale: str


class Run(_Part):
    """The run that trained the network.

    Attributes:
        hash: of its configuration; search, retraining: keys of its stages.
        seed: of the search; method: as in tables.
        commit: of the code that ran, with `+dirty` where the tree had changes; "" where that is unknown.
    """

    hash: str
    search: str
    retraining: str
    seed: int
    method: str
    commit: str


class Card(_Part):
    """What is known of an exported network.

    Attributes:
        version: of this form.
        made_by: the program and version that wrote it.
        space, genotype: the cell's space and text; known_as: its name among the published cells, or "".
        config: what can change a number of the configuration, as `hashed_values` gives it.
        channels: of the first cell, after fitting to a number of multiply-accumulates where that was asked for.
        seed: that the weights were drawn from, before any training.
        params, macs: parameters and multiply-accumulates for one image, auxiliary head left out.
        weights_sha256: see `cscdarts.export.classifier.weights_sha256`.
        data, result, run: None where the network is untrained.
        licence: of code and of weights.
        remarks: what else a user has to know, one sentence each.
    """

    version: Literal[1] = 1
    made_by: str
    trained: bool
    space: str
    genotype: str
    known_as: str = ""
    config: dict[str, Any]
    channels: int = Field(ge=2)
    seed: int
    images: Images
    classes: int = Field(ge=1)
    class_names: tuple[str, ...] | None = None
    params: int
    macs: int
    weights_sha256: str
    data: Data | None = None
    result: Result | None = None
    run: Run | None = None
    licence: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    paper: str = NOT_THE_PAPERS

    @property
    def cell(self) -> Genotype:
        """The genotype itself.

        Errors:
            UserError: it is of a space that is not known here.
        """
        return parse_genotype(self.genotype, self.space)

    def text(self) -> str:
        """The card as one line of JSON, the same for the same card."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)

    def headline(self) -> str:
        """What matters most, in a line."""
        if self.result is None or self.data is None:
            return f"untrained: its weights are drawn from seed {self.seed} and it has no error"
        return (
            f"test error {self.result.test_error_pct:.2f} % on {self.data.label}, "
            f"{self.result.epochs} epochs, scale {self.result.scale}"
        )


def read_card(text: str) -> Card:
    """A card from its JSON.

    Errors:
        ValueError: it is no card of this version; one line that says why.
    """
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"its card is not one that can be read ({where}: {first['msg']})") from None


def markdown(card: Card, name: str, sha256: str) -> str:
    """The card for people.

    Args:
        name: of the exported file; sha256: of its bytes.
    """
    return "\n".join(
        [MARK, f"# {_title(card)}", "", *_paragraphs(card), *_facts(card, name, sha256), *_usage(card, name)]
    )


def _title(card: Card) -> str:
    what = "A classifier" if card.trained else "An untrained network"
    return f"{what} of the {card.space} space{f', cell {card.known_as}' if card.known_as else ''}"


def _paragraphs(card: Card) -> Iterator[str]:
    yield f"{card.headline()[0].upper()}{card.headline()[1:]}."
    yield ""
    for remark in (*card.remarks, *((card.paper,) if card.trained else ())):
        yield remark
        yield ""


def _facts(card: Card, name: str, sha256: str) -> Iterator[str]:
    images = card.images
    rows: list[tuple[str, object]] = [("file", f"`{name}`"), ("SHA-256 of the file", f"`{sha256}`")]
    if card.result is not None:
        rows.append(("test error", f"{card.result.test_error_pct:.2f} %"))
        if card.result.test_top5_error_pct is not None:
            rows.append(("top-5 test error", f"{card.result.test_top5_error_pct:.2f} %"))
        rows.append(("epochs, scale", f"{card.result.epochs}, {card.result.scale}"))
    if card.data is not None:
        rows += [("data", card.data.label), ("SHA-256 of the data", f"`{card.data.sha256}`")]
        if card.data.fingerprint:
            rows.append(("fingerprint of the data", f"`{card.data.fingerprint}`"))
        if card.data.train_images is not None:
            rows.append(("images", f"{card.data.train_images:,} to train, {card.data.test_images:,} to test"))
        rows += [("noticed in the data", note) for note in card.data.notes]
    if card.data is None:
        rows.append(("shaped for", str(card.config.get("data", {}).get("dataset", "no data set"))))
    rows += [
        ("genotype", f"`{card.genotype}`"),
        ("parameters", f"{card.params:,} (auxiliary head left out)"),
        ("multiply-accumulates", f"{card.macs:,} for one image"),
        ("input", f"float32 (n, {images.channels}, {images.size}, {images.size}), any n; channels: {images.order}"),
        ("mean", _numbers(images.mean)),
        ("standard deviation", _numbers(images.std)),
        ("output", f"logits (n, {card.classes})"),
        ("classes", "not recorded" if card.class_names is None else ", ".join(card.class_names)),
        ("seed of the weights", card.seed),
    ]
    if card.run is not None:
        rows += [
            ("method", card.run.method),
            ("run", f"`{card.run.hash}`, seed {card.run.seed}"),
            ("keys of search and retraining", f"`{card.run.search}`, `{card.run.retraining}`"),
            ("code", f"`{card.run.commit}`" if card.run.commit else "commit not recorded"),
        ]
    rows += [("SHA-256 of the weights", f"`{card.weights_sha256}`"), ("written by", card.made_by)]
    rows += [("licence", sentence) for sentence in card.licence]
    yield from ("| what | value |", "|---|---|")
    yield from (f"| {key} | {_cell(value)} |" for key, value in rows)


def _usage(card: Card, name: str) -> Iterator[str]:
    normalised = (
        "    # images: float32 (n, channels, size, size), normalised with the mean and deviation above"
        if card.images.mean is not None
        else "    # images: float32 (n, channels, size, size), normalised as in training"
    )
    yield from ("", "```python", "import cscdarts", "", f"network = cscdarts.load({name!r})", normalised.strip())
    yield from ("logits = network(images)", "```", "")


def _numbers(values: tuple[float, ...] | None) -> str:
    return "not recorded" if values is None else ", ".join(f"{value:.6g}" for value in values)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")
