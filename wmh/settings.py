"""Settings of ``studies/NAME.yaml``, group by group, with what is assumed where it is silent.

Settings are checked when they are read: an unknown key or a wrong value is refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from wmh.encoders import nearest_encoders


def at_home(path: Path) -> Path:
    """A path whose ``~`` is the user's home, as in a shell; one of no known user stays as it is."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def in_order(limits: tuple[float, float]) -> tuple[float, float]:
    """A range whose first number is not above its second."""
    if limits[0] > limits[1]:
        raise ValueError("the smaller number comes first")
    return limits


def as_file_name(name: str) -> str:
    """A name that can name a file, and stands in commands as it is."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError("use letters, digits, '_', '-' and '.', beginning with a letter or digit")
    return name


UserPath = Annotated[Path, AfterValidator(at_home)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
AtLeastOne = Annotated[float, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
PatchEdge = Annotated[int, Field(ge=16, multiple_of=16)]
FileName = Annotated[str, AfterValidator(as_file_name)]
Range = Annotated[tuple[Positive, Positive], AfterValidator(in_order)]


class Settings(BaseModel):
    """Settings that refuse unknown keys and do not change after they were read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Simulation(Settings):
    """Subjects to simulate of each of the challenge's scanners, or of ``various``."""

    training: Annotated[dict[str, Count], Field(min_length=1)]
    test: Annotated[dict[str, Count], Field(min_length=1)]
    anatomy: Literal["template", "heads"] = "template"
    """From the MNI152 template, or from real people's whole heads (``wmh fetch heads``)."""
    heads_folder: UserPath = Path("data/heads")
    in_plane_coarsening: Count = 1


class CohortSettings(Settings):
    """The subjects: where they come from, and what is asked of them."""

    source: Literal["simulated", "challenge", "bids", "csv"]
    folder: UserPath
    """Folder of the images; for ``source: csv``, the CSV file itself."""
    simulation: Simulation | None = None
    further: Path | None = None
    """A CSV table of further people to learn from, beside those of ``folder``. None of them is
    validated on, and none tested unless the table's column ``split`` says so."""
    test_share: Share = 0.3
    """Share of the people to test on, where a BIDS folder or a CSV does not say who is."""
    register_t1: bool = False
    """Move each T1 rigidly onto its FLAIR; otherwise the headers are believed."""
    leave_out_unusable: bool = False
    """Go on without subjects that cannot be used, and list them; otherwise one stops the study."""

    @property
    def simulated_alone(self) -> bool:
        """True where none of those to learn from is a real person."""
        return self.source == "simulated" and self.further is None

    @model_validator(mode="after")
    def _simulation_belongs_to_simulated(self) -> CohortSettings:
        if (self.source == "simulated") != (self.simulation is not None):
            raise ValueError("'simulation' goes with source: simulated, and only with it")
        return self


class RegionSettings(Settings):
    """The atlas that is carried to the subjects, and the way it is."""

    atlas: Literal["built-in", "jhu", "published", "known"] = "built-in"
    """``wmh fetch atlas`` brings ``jhu`` and ``published``, the authors' own labels. ``known`` are
    the subjects' own true regions; who has none gets an empty image, and trains lesions alone."""
    atlas_folder: UserPath = Path("data/atlas")
    method: Literal["affine", "paper", "deformable"] = "affine"


class SliceSettings(Settings):
    """The 2-D slices a network sees: axial, in native space, resampled in plane only."""

    voxel_size_mm: Annotated[float, Field(ge=0.1, le=20)] | None = None
    """In-plane voxel size; None keeps the native one."""
    precision: Literal["float32", "float16"] = "float32"
    storage: Literal["auto", "device", "host", "disk"] = "auto"
    """Their place while a model is trained: in the memory of the device, in that of the machine, or
    in files below ``results/STUDY/slices``. ``auto`` takes the first with room for them. Batches
    are the same from all three."""


class Augmentation(Settings):
    """Strength of each augmentation, and the probability that a sample gets it."""

    probability: Share = 0.35
    rotation_degrees: NotNegative = 12.0
    scaling: Range = (0.85, 1.2)
    mirroring: bool = True
    elastic: NotNegative = 0.02
    """Standard deviation of the displacement, as a share of half the slice's edge."""
    additive_noise: NotNegative = 0.06
    multiplicative_noise: NotNegative = 0.05
    bias_field: NotNegative = 0.07
    """Standard deviation of the logarithm of the gain."""
    gamma: Range = (0.75, 1.35)
    contrast: Range = (0.8, 1.25)
    brightness: Range = (0.93, 1.07)
    blur_pixels: Range = (0.3, 0.8)
    low_resolution: tuple[AtLeastOne, AtLeastOne] = (1.0, 1.8)
    """Times coarser along one axis."""
    motion_pixels: NotNegative = 0.8
    """Movement of a head along one axis while it is scanned, at most."""


class NetworkSettings(Settings):
    """The network. ``encoder``, ``depth`` and ``decoder_channels`` are the 2-D U-Net's, its encoder
    one of segmentation-models-pytorch's; ``width`` is the first level's of all others."""

    architecture: Literal["unet", "unetr", "mednext", "multiresunet"] = "unet"
    dimensions: Literal[2, 3] = 2
    """2 for axial slices, 3 for patches of volumes."""
    width: Annotated[int, Field(ge=4)] = 32
    patch_size: tuple[PatchEdge, PatchEdge, PatchEdge] = (96, 96, 32)
    """Voxels of a patch, right, front and up, where ``dimensions`` is 3."""
    encoder: str = "resnet18"
    depth: Annotated[int, Field(ge=3, le=5)] = 4
    decoder_channels: tuple[Count, ...] = (96, 64, 32, 16)
    """One number per level from the deepest up, or without the last: the decoder then ends at half
    resolution."""

    @field_validator("encoder")
    @classmethod
    def _is_installed(cls, encoder: str) -> str:
        if nearest := nearest_encoders(encoder):
            raise ValueError(f"no such encoder; did you mean {' or '.join(nearest)}?")
        return encoder

    @model_validator(mode="after")
    def _can_be_built(self) -> NetworkSettings:
        if len(self.decoder_channels) not in (self.depth, self.depth - 1):
            raise ValueError(
                f"decoder_channels must hold {self.depth} numbers, one per level, or "
                f"{self.depth - 1}, for a decoder that ends at half resolution"
            )
        if max(self.patch_size) < 32:
            raise ValueError("patch_size must have an edge of at least 32 voxels")
        return self


class LossSettings(Settings):
    """Weights of the loss terms."""

    cross_entropy: NotNegative = 1.0
    dice: NotNegative = 1.0
    skeleton_recall: NotNegative = 0.0
    """Above 0, tubed skeletons of the truth are computed ahead of training."""
    task_weights: Literal["fixed", "uncertainty"] = "fixed"
    """Weighing of the losses of a network that predicts both structures: by ``lesions`` and
    ``regions``, or by what it learns of their uncertainty."""
    lesions: NotNegative = 1.0
    regions: NotNegative = 1.0
    lesion_class_weight: Positive = 1.0
    background_weight: Positive = 0.1
    """Of the background beside 36 region labels, in the cross-entropy. It fills nine tenths of a
    slice; at full weight a network learns nothing else for hundreds of steps, and at this one it
    calls a fifth too much a region, until it goes on at a higher one."""
    lesions_in_regions: Positive = 1.0
    """Of lesion in the cross-entropy of the regions. It looks like no white matter, and yet where
    it lies is what the regions are for."""


class ModelSettings(Settings):
    """One trained model: what it predicts and what it is given."""

    task: Literal["lesions", "regions", "multitask"]
    inputs: Literal["flair", "t1", "flair_t1", "flair_t1_dropout", "interchangeable"]
    steps: Count


class Training(Settings):
    """Settings that all trainings of a study share."""

    repeats: Count = 1
    """Trainings of each model, each from other seeds."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Repeat i validates on the i-th of so many parts of the training subjects; None: all repeats
    validate on the same ``validation_share``."""
    validation_share: Share = 0.2
    batch_size: Count = 16
    """Slices or patches of a step, drawn with replacement: it may exceed what the cohort holds."""
    learning_rate: Positive = 2e-3
    weight_decay: NotNegative = 1e-2
    people_a_batch: Count = 2
    """People whose slices make up a batch, in equal parts."""
    further_share: Share = 0.4
    """Share of them, on average, that are of the cohort's table of further people."""
    structure_slices_share: Share = 0.6
    """Share of each batch drawn among slices that hold lesion or, for region tasks, a region."""
    validate_every: Count = 50
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto`` takes bfloat16 where the processor multiplies it natively; on a CPU, networks for
    volumes always compute in float32."""
    start_from: str | None = None
    """Weights to start from instead of random ones: ``general``, those of the package, or a study
    with models of the same names. The networks must be alike; what inputs and tasks share is
    taken."""
    network: NetworkSettings = NetworkSettings()
    loss: LossSettings = LossSettings()
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _numbers_fit(self) -> Training:
        if self.network.dimensions == 2 and self.batch_size % self.people_a_batch:
            raise ValueError(
                f"batch_size must be a multiple of people_a_batch, {self.people_a_batch}"
            )
        if self.folds is not None and self.repeats > self.folds:
            raise ValueError(f"repeats must be at most the number of folds, {self.folds}")
        return self


class Evaluation(Settings):
    """Asking the models, and drawing numbers from what they answer."""

    threshold: Share = 0.5
    mirroring: bool = False
    """Average each prediction with that from the mirrored images. Takes twice as long."""
    slices_at_once: Count = 64
    """A person with more goes through a 2-D network in several parts, each spread over the head."""
    bootstrap_samples: Count = 5000
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05


class Participants(Settings):
    """Further knowledge of the subjects, to be related to where their lesions lie."""

    table: UserPath
    """TSV as in BIDS, or CSV; a column ``participant_id``, ``subject`` or ``id`` names them."""
    variable: str
    covariates: tuple[str, ...] = ()


class Compute(Settings):
    """The machine. Results depend on ``threads``, so it is a setting and no default."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count = 1
    """CPU threads of one notebook."""
