"""Which images a student is trained on: the data set, and the part of it that is used."""

import functools
import inspect
import operator
import os
import pkgutil
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from msd_sweeps.catalog import image_folders, tensor_files
from msd_sweeps.catalog.datasets import DATASETS, IMAGENET, TEST_FOLDERS, DataError, Dataset
from msd_sweeps.space.settings import Count, Positive, Seed, Settings, Where

_IMAGENET = Dataset(num_classes=1000, image_size=224, train_images=1_281_167, test_images=50_000)
_LARGEST_RESIDENT_BYTES = 16 * 2**30


class Content(Settings):
    """What was found in the files of a data set that the user brings."""

    fingerprint: str
    num_classes: Count
    image_size: Count
    train_images: Count
    test_images: Count


Share = Annotated[float, Field(ge=0, le=1)]


class Normalize(Settings):
    """Mean and standard deviation of each channel, on the scale 0 to 1."""

    mean: tuple[Share, Share, Share]
    std: tuple[Positive, Positive, Positive]


class Data(Settings):
    """The images of a trial."""

    name: Literal["digits", "cifar10", "cifar100", "imagenet", "folder", "tensors"]
    """folder: any images in class folders `train/<class>/` and `test/<class>/` (or `val/<class>/`), kept decoded in
    memory. imagenet: the same folders, but read during training, with the crops and sizes of ImageNet. tensors: an
    .npz file or a folder of Parquet files."""
    root: str = "data"
    """Folder or file that holds the images; not part of a trial's identity."""
    image_size: Annotated[int, Field(ge=8, le=1024)] | None = None
    """Side of the square images in pixels, for `folder`, `imagenet` (224 when absent) and `tensors`. For the others,
    where a network needs larger images, the side to which each batch is scaled up."""
    loader_workers: Annotated[int, Field(ge=1, le=128)] = 4
    """Threads per worker that decode images, for `imagenet`; not part of a trial's identity."""
    train_samples: Count | None = None
    """Use only so many training images, of every class the same share; a search holds out a part of them."""
    val_fraction: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Share of these images that is held out, stratified. A search sets it; a confirmation trains on all of them."""
    split_seed: Seed = 0
    normalize: Normalize | None = None
    """What images are normalised by, where a teacher was trained with other than the published or measured numbers."""
    content: Content | None = None
    """Found in the files, not written by hand: with it a trial keeps its id on machines without the files."""

    @model_validator(mode="after")
    def _find_content(self) -> Self:
        if self.name in DATASETS:
            size = DATASETS[self.name].image_size
            if self.content is not None:
                raise ValueError(f"content: {self.name} is known; leave it out")
            if self.image_size is not None and self.image_size < size:
                only = f"{self.name} has images of {size} px, which are only scaled up"
                raise ValueError(f"image_size: {only}, found {self.image_size}; give more, or leave it out")
        elif self.content is None:
            if self.name == "folder" and self.image_size is None:
                raise ValueError("image_size: missing; folder needs the side of its images in pixels, such as 32 or 64")
            try:
                content = self._examined()
            except (DataError, OSError) as error:  # OSError: a name that no file can have
                raise ValueError(f"root: {error}") from error
            object.__setattr__(self, "content", content)  # frozen, but still under construction
        return self

    def _examined(self) -> Content:
        """The sizes of a data set that the user brings, and a fingerprint of its files. Raises DataError."""
        root = self.path
        if self.name in TEST_FOLDERS:
            found = image_folders.find_images(root, TEST_FOLDERS[self.name])
            facts = Dataset(len(found.classes), self.image_size or 224, len(found.train.paths), len(found.test.paths))
            is_whole = self.name == "imagenet" and facts._replace(image_size=224) == _IMAGENET
            mark = IMAGENET if is_whole else found.fingerprint(root)
        else:
            facts, mark = tensor_files.measure(root, self.image_size), tensor_files.fingerprint(root)
        images = facts.train_images + facts.test_images
        size = images * 3 * facts.image_size**2
        if size > _LARGEST_RESIDENT_BYTES and self.name != "imagenet":
            needed = f"{images:,} images of {facts.image_size} px take {size / 2**30:.0f} GiB in memory"
            hint = "use a smaller image_size, or class folders with name: imagenet, which reads images as it goes"
            raise DataError(f"{root}: {needed}, where {self.name} keeps them; {hint}")
        return Content(fingerprint=mark, **facts._asdict())

    @property
    def path(self) -> Path:
        """Where the images lie, with `~` for the home folder."""
        return Path(os.path.expanduser(self.root))  # unlike Path.expanduser, leaves the name of no user as it is

    @property
    def facts(self) -> Dataset:
        """Sizes of the whole data set."""
        if self.content is None:
            known = DATASETS[self.name]
            return known._replace(image_size=self.image_size or known.image_size)
        return Dataset(**self.content.model_dump(exclude={"fingerprint"}))

    @property
    def used_images(self) -> int:
        """Training images that are trained on or held out."""
        return min(self.facts.train_images, self.train_samples or self.facts.train_images)

    @property
    def whole(self) -> "Data":
        """The same images without a selection: a teacher is trained and measured on them."""
        return self.model_copy(update={"train_samples": None, "val_fraction": 0.0, "split_seed": 0})

    @property
    def source(self) -> dict[str, Any]:
        """The settings and hashes that decide the bytes of the images, wherever they lie."""
        own = {} if self.normalize is None else {"normalize": self.normalize.model_dump(mode="json")}
        if self.content is not None:
            return {"name": self.name, **self.content.model_dump(include={"fingerprint", "image_size"}), **own}
        is_scaled = self.facts != DATASETS[self.name]
        return {"name": self.name, **own} | ({"image_size": self.image_size} if is_scaled else {})

    @property
    def identified(self) -> dict[str, Any]:
        """The settings and hashes that decide which images a student is trained on."""
        return self.source | self.model_dump(mode="json", include={"train_samples", "val_fraction", "split_seed"})


class OwnData(Data):
    """A data set of one's own: a function gives its images, and its arguments are settings beside the others."""

    name: str  # type: ignore[assignment]  # each has its own, as a Literal
    function: ClassVar[Any] = None

    def _examined(self) -> Content:
        return pkgutil.resolve_name("msd_sweeps.distill.data.own:content")(self)  # which needs torch

    @property
    def arguments(self) -> dict[str, Any]:
        """What its function is called with."""
        return {name: getattr(self, name) for name in inspect.signature(self.function).parameters}


DATA: dict[str, type[Data]] = {}
"""The settings of the data sets of one's own by name."""


def data_of(tree: dict[str, Any], where: Where) -> Data:
    """The data that a tree describes, built-in or of one's own. Raises InputError."""
    return DATA.get(str(tree.get("name")), Data).of_tree(tree, where)


def data_type() -> Any:
    """The union of the built-in data sets and those of one's own."""
    return functools.reduce(operator.or_, DATA.values(), Data)
