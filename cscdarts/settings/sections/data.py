"""What is learned from."""

from typing import Annotated, Literal

from pydantic import Field

from cscdarts.settings.sections.neutral import Neutral
from cscdarts.settings.values import Fingerprint, Frozen


class DataConfig(Frozen):
    """What is learned from. The folder that holds it is a runtime matter; its content is fingerprinted in the
    record."""

    dataset: Literal["digits", "fashion-mnist", "cifar10", "cifar100", "image-folder", "imagenet"] = "digits"
    search_dataset: Literal["same", "digits", "fashion-mnist", "cifar10", "cifar100", "image-folder", "imagenet"] = (
        "same"
    )
    image_size: int | None = Field(default=None, ge=4, le=512)
    search_fraction: float = Field(default=1.0, ge=1e-6, le=1)
    flip: bool | None = None
    crop_padding: int | None = Field(default=None, ge=0, le=64)
    split_seed: int = Field(default=0, ge=0, lt=2**31)
    #: How an oblong image becomes square, and what lies behind transparent pixels and beside padded images.
    square: Annotated[Literal["squeeze", "crop", "pad"], Neutral("squeeze")] = "squeeze"
    background: Annotated[Literal["white", "gray", "black"], Neutral("white")] = "white"
    #: What the files of `dataset` and of another searched data set hold, as `cscdarts.data.fingerprint` tells it; empty
    #: where the name alone says it.
    fingerprint: Annotated[Fingerprint, Neutral("")] = ""
    search_fingerprint: Annotated[Fingerprint, Neutral("")] = ""

    @property
    def searched_dataset(self) -> str:
        """The data set that is searched on; `dataset` is what the derived network is trained on."""
        return self.dataset if self.search_dataset == "same" else self.search_dataset

    @property
    def searched_fingerprint(self) -> str:
        """The fingerprint of the data set that is searched on."""
        return self.fingerprint if self.searched_dataset == self.dataset else self.search_fingerprint

    def fingerprint_of(self, name: str) -> str:
        """The fingerprint of one of the two data sets, by its name."""
        return self.fingerprint if name == self.dataset else self.search_fingerprint
