"""A study: what is computed on which cohort, read from ``studies/NAME.yaml``.

A study's settings are checked when they are read. An unknown key or a wrong value is reported in
one line that names the file, the key and what is allowed.
"""

from __future__ import annotations

import hashlib
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, Field, PrivateAttr, ValidationError

from wmh.results import TABLES
from wmh.settings import (
    CohortSettings,
    Compute,
    Count,
    Evaluation,
    FileName,
    ModelSettings,
    Participants,
    RegionSettings,
    Settings,
    SliceSettings,
    Training,
)


class StudyError(ValueError):
    """Settings that cannot be used, or results that are not there yet.

    The message names the file, and the key and what is allowed or the notebook to run first.
    """


class Study(Settings):
    """All settings of one study."""

    name: FileName
    title: str
    seed: Annotated[int, Field(ge=0)] = 2025
    cohort: CohortSettings
    regions: RegionSettings = RegionSettings()
    slices: SliceSettings = SliceSettings()
    training: Training = Training()
    models: Annotated[dict[FileName, ModelSettings], Field(min_length=1)]
    evaluation: Evaluation = Evaluation()
    participants: Participants | None = None
    compute: Compute = Compute()
    repeat: Count = 1
    """Which of the repeated trainings is meant; set by :meth:`of_repeat`, not in the file."""
    _file: Path = PrivateAttr()

    @property
    def results(self) -> Path:
        """Folder of everything that the study makes, except its figures."""
        return project_root() / "results" / self.name

    @property
    def figures(self) -> Path:
        """Folder of the study's figures."""
        return project_root() / "figures" / self.name

    @property
    def cohort_folder(self) -> Path:
        """Folder of the study's images."""
        return project_root() / self.cohort.folder

    def repeats(self) -> list[Study]:
        """The study once per repeat, in order; see :meth:`of_repeat`."""
        return [self.of_repeat(number + 1) for number in range(self.training.repeats)]

    def of_repeat(self, number: int) -> Study:
        """The same study with the seeds and model folders of one repeat.

        The first repeat is the study itself. Raises :class:`StudyError` for a number above
        ``training.repeats``.
        """
        if not 1 <= number <= self.training.repeats:
            raise StudyError(
                f"study {self.name} has no repeat {number}; training.repeats in its file is "
                f"{self.training.repeats}"
            )
        return self.model_copy(update={"repeat": number})

    def run_name(self, model: str) -> str:
        """The name of this repeat's training of a model: ``flair``, then ``flair_repeat_2``."""
        return model if self.repeat == 1 else f"{model}_repeat_{self.repeat}"

    def model_folder(self, model: str) -> Path:
        """Folder of a trained model: its checkpoint, split and learning curve."""
        return self.results / "models" / self.run_name(model)

    def table(self, name: str) -> Path:
        """File of one of the tables that :mod:`wmh.results` names."""
        return self.results / f"{name}.csv"

    def region_labels(self, subject: str) -> Path:
        """File of a subject's region labels, which notebook 2 writes."""
        return self.results / "regions" / f"{subject}.nii.gz"

    def prediction(self, model: str, given: str, subject: str, kind: str) -> Path:
        """File of this repeat's prediction of a test subject by a model that was ``given`` images.

        ``kind`` is ``lesions``, ``probability`` or ``regions``.
        """
        folder = self.results / "predictions" / self.run_name(model) / given
        return folder / f"{subject}_{kind}.nii.gz"

    def find_model(self, name: str) -> ModelSettings:
        """A model's settings by its name; raises :class:`StudyError` for one it does not have."""
        if name not in self.models:
            raise StudyError(
                f"study {self.name} has no model {name}; its models are {', '.join(self.models)}"
            )
        return self.models[name]

    def models_of(self, *tasks: str) -> list[str]:
        """Names of the models trained for any of these tasks, in the order of the study file."""
        return [name for name, model in self.models.items() if model.task in tasks]

    def seed_for(self, *purpose: str | int) -> int:
        """A 32-bit seed for one purpose, hashed from the study's seed and the purpose's name.

        Different purposes therefore get different random numbers.

        >>> study.seed_for("train", "flair")  # doctest: +SKIP
        """
        repeat = () if self.repeat == 1 else (f"repeat {self.repeat}",)
        words = "/".join(str(word) for word in (self.seed, *repeat, *purpose))
        return int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big")


def load_study(name: str | Path | Study) -> Study:
    """Read ``studies/NAME.yaml``, or the file at a path that ends in ``.yaml`` or ``.yml``.

    A study that was read is read again, as when a notebook's cell is run once more. Raises
    :class:`StudyError`, in one line, for a missing file, broken YAML, an unknown key or a value
    that is not allowed.
    """
    path = name._file if isinstance(name, Study) else Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = project_root() / "studies" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in (project_root() / "studies").glob("*.yaml")))
        raise StudyError(f"{path}: no such study. There are: {known}")
    try:
        # as bytes: yaml finds the encoding itself
        settings = yaml.load(path.read_bytes(), _EachKeyOnce)
    except yaml.YAMLError as error:
        raise StudyError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise StudyError(f"{path}: no settings found. A study file holds lines of 'key: value'")
    try:
        study = Study(
            name=path.stem, repeat=1, **{str(key): value for key, value in settings.items()}
        )
    except (ValidationError, TypeError) as error:
        raise StudyError(f"{path}: {_first_problem(error)}") from error
    network = study.training.network
    if vain := network.given_in_vain():
        unused = f"a {network.dimensions}-D {network.architecture} does not use {', '.join(vain)}"
        raise StudyError(f"{path}: training.network: {unused}; leave that out")
    study._file = path.resolve()
    return study


class _EachKeyOnce(yaml.SafeLoader):
    """YAML without objects, and without a key twice, of which the last would silently count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value} stands there twice", key.start_mark
                )
            keys.add(key.value)
        return super().construct_mapping(node, deep)


def made(path: Path, notebook: str | None = None) -> Path:
    """The path to a file that an earlier notebook makes; a table's notebook is known by its name.

    Raises :class:`StudyError`, which names file and notebook, where it is not there yet.
    """
    if not path.is_file():
        maker = notebook or next(name for name, tables in TABLES.items() if path.stem in tables)
        raise StudyError(f"{path}: not there yet. Run notebook {maker} of this study first")
    return path


def project_root() -> Path:
    """Root of the checkout: ``WMH_ROOT`` if set, else the nearest folder with ``studies/``.

    It is looked for from the current folder upwards, then where the package lies.
    """
    if "WMH_ROOT" in os.environ:
        return Path(os.environ["WMH_ROOT"]).resolve()
    here = Path.cwd().resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[1]):
        if (folder / "studies").is_dir() and (folder / "notebooks").is_dir():
            return folder
    raise StudyError(
        f"{here}: no folder studies/ here or above. Run the command inside the checkout, or set "
        "WMH_ROOT to its folder"
    )


def _first_problem(error: ValidationError | TypeError) -> str:
    """The first problem in one line: the key, what was found, what is allowed."""
    if isinstance(error, TypeError):
        return "'name' and 'repeat' are not settings (the file's name is the name); remove the key"
    problems = error.errors()  # a misspelt key comes before the missing key that it was meant for
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    key = ".".join(str(part) for part in problem["loc"]) or "study"
    if problem["type"] == "extra_forbidden":
        allowed = _settings_at(problem["loc"][:-1])
        nearest = get_close_matches(str(problem["loc"][-1]), allowed, n=1)
        meant = f"did you mean {nearest[0]}? " if nearest else ""
        return f"{key}: unknown key; {meant}allowed are {', '.join(allowed)}"
    if problem["type"] == "missing":
        return f"{key}: missing; add it to the file"
    said, found = problem["msg"].removeprefix("Value error, "), problem.get("input")
    # what is wrong with a group names its keys: the whole of it would only hide that
    return f"{key}: {said}" + f"; found {found!r}" * (not isinstance(found, dict) or not found)


def _settings_at(keys: tuple) -> list[str]:
    """The keys allowed below a path of keys."""
    level: type[BaseModel] | None = Study
    for key in keys:
        if level is None or key not in level.model_fields:
            continue  # a name that the user chose, such as a model's
        level = _settings_class(level.model_fields[key].annotation)
    return [key for key in level.model_fields if key not in ("name", "repeat")]


def _settings_class(annotation: object) -> type[BaseModel] | None:
    """The settings class inside an annotation such as ``dict[str, ModelSettings]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = [_settings_class(part) for part in getattr(annotation, "__args__", ())]
    return next((found for found in inner if found), None)
