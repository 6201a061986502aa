"""Settings of ``studies/NAME.yaml``, group by group, with their defaults.

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
    """Replace ``~`` by the user's home, as a shell does; ``~NAME`` of no known user stays."""
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
    if re.search(r"_repeat_\d+$", name):
        raise ValueError("a name that ends in _repeat_ and a number is kept for repeated trainings")
    return name


UserPath = Annotated[Path, AfterValidator(at_home)]
Share = Annotated[float, Field(ge=0, le=1)]
ProperShare = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
AtLeastOne = Annotated[float, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
PatchEdge = Annotated[int, Field(ge=16, multiple_of=16)]
FileName = Annotated[str, AfterValidator(as_file_name)]
Range = Annotated[tuple[Positive, Positive], AfterValidator(in_order)]


class Settings(BaseModel):
    """Settings that refuse unknown keys and cannot be changed after they were read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Simulation(Settings):
    """Number of subjects to simulate on each scanner: the challenge's five, or ``various``."""

    training: Annotated[dict[str, Count], Field(min_length=1)]
    test: Annotated[dict[str, Count], Field(min_length=1)]
    anatomy: Literal["template", "heads"] = "template"
    """Source of the anatomy: the MNI152 template, or label maps of twenty real people's whole heads
    (``wmh fetch heads``)."""
    heads_folder: UserPath = Path("data/heads")
    in_plane_coarsening: Count = 1


class CohortSettings(Settings):
    """The subjects: where they come from and how they are prepared."""

    source: Literal["simulated", "challenge", "bids", "csv"]
    folder: UserPath
    """Folder of the images; for ``source: csv``, the CSV file itself."""
    simulation: Simulation | None = None
    further: Path | None = None
    """A CSV table of further people to train on, beside those of ``folder``. They are never used
    for validation, and for testing only if the table's column ``split`` says so."""
    test_share: Share = 0.3
    """Share of the people to test on, where a BIDS folder or a CSV table gives no split."""
    register_t1: bool = False
    """Move each T1 rigidly onto its FLAIR; otherwise its position is taken from the headers."""
    leave_out_unusable: bool = False
    """Continue without subjects that cannot be used, and list them; otherwise the study stops."""

    @property
    def simulated_alone(self) -> bool:
        """True where no training subject is a real person."""
        return self.source == "simulated" and self.further is None

    @model_validator(mode="after")
    def _simulation_belongs_to_simulated(self) -> CohortSettings:
        if (self.source == "simulated") != (self.simulation is not None):
            raise ValueError("give 'simulation' if source is simulated, and only then")
        return self


class RegionSettings(Settings):
    """The source of each subject's regions: an atlas and the method to register it, or labels."""

    atlas: Literal["built-in", "jhu", "published", "known"] = "built-in"
    """``built-in`` comes with the package. ``wmh fetch atlas`` brings ``jhu`` and ``published``
    (the authors' own labels). ``known`` takes the true regions that a cohort brings; a subject
    without them gets an empty image and trains lesions only."""
    atlas_folder: UserPath = Path("data/atlas")
    method: Literal["affine", "paper", "deformable"] = "affine"

    @property
    def registered(self) -> bool:
        """True if an atlas is registered, and False if labels are taken as they are."""
        return self.atlas in ("built-in", "jhu")


class SliceSettings(Settings):
    """The 2-D slices that a network sees: axial, in native space, resampled in plane only."""

    voxel_size_mm: Annotated[float, Field(ge=0.1, le=20)] | None = None
    """In-plane voxel size; None keeps the native one."""
    precision: Literal["float32", "float16"] = "float32"
    """Number format in which slices are stored."""
    storage: Literal["auto", "device", "host", "disk"] = "auto"
    """Where slices are kept during a training: in the memory of the device, in that of the machine
    (``host``), or in files below ``results/STUDY/slices``. ``auto`` takes the first of these with
    enough room. The choice does not change the batches."""


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
    blur_pixels: Annotated[tuple[NotNegative, NotNegative], AfterValidator(in_order)] = (0.3, 0.8)
    low_resolution: tuple[AtLeastOne, AtLeastOne] = (1.0, 1.8)
    """Factor by which the resolution is lower along one axis."""
    motion_pixels: NotNegative = 0.8
    """Largest movement of the head along one axis during the scan."""


class NetworkSettings(Settings):
    """The network.

    ``encoder`` (of segmentation-models-pytorch), ``depth`` and ``decoder_channels`` belong to the
    2-D U-Net. ``width`` is the number of channels in the first level of the 3-D U-Net and of
    MedNeXt; a UNETR has half as many there, and MultiResUNet's blocks have 1.6 times as many.
    """

    architecture: Literal["unet", "unetr", "mednext", "multiresunet"] = "unet"
    dimensions: Literal[2, 3] = 2
    """2 for axial slices, 3 for patches of volumes."""
    width: Annotated[int, Field(ge=4)] = 32
    patch_size: tuple[PatchEdge, PatchEdge, PatchEdge] = (96, 96, 32)
    """Voxels of a patch from left to right, back to front and bottom to top, if ``dimensions`` is
    3."""
    encoder: str = "resnet18"
    depth: Annotated[int, Field(ge=3, le=5)] = 4
    decoder_channels: tuple[Count, ...] = (96, 64, 32, 16)
    """Channels of each level, from the deepest up. Without the last number the decoder ends at half
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
                f"decoder_channels must hold {self.depth} numbers, one for each level of depth, or "
                f"{self.depth - 1} for a decoder that ends at half resolution"
            )
        if max(self.patch_size) < 32:
            raise ValueError("at least one edge of patch_size must have 32 voxels or more")
        return self

    def given_in_vain(self) -> list[str]:
        """Keys whose value is not the default, although this network has no use for it."""
        of_others = {"patch_size"} if self.dimensions == 2 else set()
        if self.architecture == "unet" and self.dimensions == 2:
            of_others |= {"width"}
        else:
            of_others |= {"encoder", "depth", "decoder_channels"}
        fields = type(self).model_fields
        return [
            key for key in fields if key in of_others and getattr(self, key) != fields[key].default
        ]


class LossSettings(Settings):
    """Weights of the loss terms."""

    cross_entropy: NotNegative = 1.0
    dice: NotNegative = 1.0
    skeleton_recall: NotNegative = 0.0
    """If above 0, thickened skeletons of the true labels are computed before training."""
    task_weights: Literal["fixed", "uncertainty"] = "fixed"
    """How a multi-task network weights its two losses: by the settings ``lesions`` and ``regions``,
    or by uncertainties that it learns."""
    lesions: NotNegative = 1.0
    regions: NotNegative = 1.0
    lesion_class_weight: Positive = 1.0
    background_weight: Positive = 0.1
    """Weight of the background in the cross-entropy of the regions. Background fills nine tenths of
    a slice. At weight 1 a network learns nothing else for hundreds of steps; at 0.1 it labels a
    fifth too many voxels as regions, which a later training at a higher weight corrects."""
    lesions_in_regions: Positive = 1.0
    """Weight of lesion voxels in the cross-entropy of the regions. Lesions do not look like white
    matter, but their region is what matters most."""

    @model_validator(mode="after")
    def _teaches(self) -> LossSettings:
        if not self.cross_entropy + self.dice + self.skeleton_recall:
            raise ValueError("one of cross_entropy, dice and skeleton_recall must be above 0")
        return self


class ModelSettings(Settings):
    """One trained model: its task, its inputs and its number of training steps."""

    task: Literal["lesions", "regions", "multitask"]
    inputs: Literal["flair", "t1", "flair_t1", "flair_t1_dropout", "interchangeable"]
    steps: Count


class Training(Settings):
    """Settings that all trainings of a study share."""

    repeats: Count = 1
    """How often each model is trained, each time with other seeds."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """Number of parts of the training subjects; repeat i validates on part i. None: all repeats
    validate on the same ``validation_share``."""
    validation_share: Share = 0.2
    batch_size: Count = 16
    """Slices or patches per step. They are drawn with replacement, so there may be more of them
    than the cohort has."""
    learning_rate: Positive = 2e-3
    weight_decay: NotNegative = 1e-2
    people_a_batch: Count = 2
    """Number of people in a batch of slices; each gives the same number of slices."""
    further_share: Share = 0.4
    """Average share of these people that come from the table ``cohort.further``. Patches of volumes
    are drawn from all people alike."""
    structure_slices_share: Share = 0.6
    """Share of each batch drawn among slices that hold lesion or, for a model of regions only, a
    region. Of patches of volumes, this share holds lesion, for models that predict lesions."""
    validate_every: Count = 50
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """``auto`` takes bfloat16 where the processor multiplies it natively. On a CPU, networks for
    volumes always compute in float32."""
    start_from: str | None = None
    """Weights to start from instead of random ones: ``general`` (those in the package), or the name
    of a study with models of the same names. The networks must have the same architecture; weights
    are taken as far as inputs and tasks are the same."""
    network: NetworkSettings = NetworkSettings()
    loss: LossSettings = LossSettings()
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _numbers_fit(self) -> Training:
        if self.network.dimensions == 2 and self.batch_size % self.people_a_batch:
            raise ValueError(
                f"batch_size must be a multiple of people_a_batch, which is {self.people_a_batch}"
            )
        if self.folds is not None and self.repeats > self.folds:
            raise ValueError(f"repeats must be at most folds, which is {self.folds}")
        return self


class Evaluation(Settings):
    """How the models predict, and how the predictions are tested."""

    threshold: ProperShare = 0.5
    mirroring: bool = False
    """Average each prediction with that of the mirrored images; takes twice as long. In ``wmh
    predict``, regions only if the same model predicts lesions and regions."""
    slices_at_once: Count = 64
    """Most slices that a 2-D network predicts at once. A person with more slices is predicted in
    several parts, each spread over the head."""
    bootstrap_samples: Count = 5000
    alpha: ProperShare = 0.05


class Participants(Settings):
    """A table about the subjects, with a variable to relate to their regional lesion burden."""

    table: UserPath
    """TSV as in BIDS, or CSV. A column ``participant_id``, ``subject`` or ``id`` names the
    subjects."""
    variable: str
    covariates: tuple[str, ...] = ()


class Compute(Settings):
    """The machine. ``threads`` is a setting of the study because results depend on it."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count = 1
    """CPU threads of each notebook."""
