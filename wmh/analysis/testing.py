"""Prediction of the test subjects by every model, from each set of images that it can be given."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from tqdm.auto import tqdm

from wmh.analysis.burden import TRUTH, regional_burden, split_error
from wmh.analysis.evaluation import Case
from wmh.cohorts.cohort import Subject, load_lesions, load_pair, of_split, read_cohort
from wmh.cores import cores_here
from wmh.dependencies import code_of
from wmh.files import fingerprint
from wmh.images import load_labels, save_image
from wmh.learning.devices import choose_device, keep_freed_memory
from wmh.learning.inference import predict_prepared, prepare
from wmh.learning.inputs import CONFIGURATIONS, GIVEN, MODALITIES
from wmh.learning.models import Model, choose_model, load_model_of
from wmh.learning.networks.encoder_decoders import STRUCTURES
from wmh.study import Study, made


def tested_subjects(study: Study) -> list[Subject]:
    """The study's test subjects, in the order of its cohort table."""
    return of_split(read_cohort(study.table("cohort")), "test")


def predict_cohort(study: Study) -> None:
    """Predict all test subjects with all models of all repeats, and save the predictions.

    Each model predicts from every set of images that it can use: FLAIR, T1, or both. The
    concatenated model gets zeros for a missing image.
    """
    keep_freed_memory()
    device = choose_device(study.compute.device)
    asked = study.evaluation.model_dump_json(include={"threshold", "mirroring", "slices_at_once"})
    settings = (asked, study.slices.model_dump_json(), f"{device.type}, {study.compute.threads}")
    all_share = (*settings, code_of("wmh.learning.inference"))
    subjects = tested_subjects(study)
    for repeat in study.repeats():
        models = [load_model_of(repeat, model, device) for model in study.models]
        made_by = {
            model.name: fingerprint([repeat.model_folder(model.name) / "checkpoint.pt"], *all_share)
            for model in models
        }
        with ThreadPoolExecutor(cores_here() if device.type == "cpu" else 1) as pool:
            work = pool.map(partial(_predict_subject, repeat, models, made_by), subjects)
            list(tqdm(work, "predicting", len(subjects), unit="subject"))


def cases_to_evaluate(study: Study) -> list[Case]:
    """Every saved prediction of a test subject with its truth, repeat by repeat.

    Regions are measured for subjects whose regions are known.
    """
    cases = []
    for repeat, subject, model in product(study.repeats(), tested_subjects(study), study.models):
        structures = STRUCTURES[study.models[model].task]
        lesions = "lesions" in structures
        regions = "regions" in structures and knows_regions(study, subject)
        for given in CONFIGURATIONS[study.models[model].inputs].can_be_given:
            predicted = partial(_predicted, repeat, model, given, subject.id)
            case = Case(
                subject=subject.id,
                scanner=subject.scanner,
                model=model,
                inputs_given=given,
                repeat=repeat.repeat,
                true_lesions=subject.lesions if lesions else None,
                lesions=predicted("lesions") if lesions else None,
                probability=predicted("probability") if lesions else None,
                true_regions=_labelled(study, subject.id) if regions else None,
                regions=predicted("regions") if regions else None,
            )
            cases.append(case)
    return cases


def most_given(study: Study, model: str) -> str:
    """The name, as in the tables, of the largest set of images that a model can use."""
    return CONFIGURATIONS[study.models[model].inputs].can_be_given[-1]


def knows_regions(study: Study, subject: Subject) -> bool:
    """Tell whether there are region labels of a subject, of whom only known ones count."""
    return study.regions.atlas != "known" or subject.true_regions is not None


def burden_table(study: Study) -> pd.DataFrame:
    """Regional burden of every test subject, from the truth and from each source of predictions.

    Subjects without region labels are left out (further people, if only known regions count).

    Each repeat of the study has all sources, with the parts of their error (ml) that come from the
    lesions and from the regions. The sources are:

    ``truth``: true lesions in true regions (in registered regions if no true ones are known).
    ``separate``: lesions and regions of two separate models. ``joint``: both of the multitask
    model. ``registered``: the separate model's lesions in the registered regions, into which true
    lesions were filled (:func:`wmh.atlas.tissue.white_matter`); without them some lesions would
    lie outside. Other pathology (label 2) is left out of truth and predictions.
    """
    tables, subjects = [], tested_subjects(study)
    known = [subject for subject in subjects if knows_regions(study, subject)]
    for repeat, subject in product(study.repeats(), known or subjects):
        truth = load_lesions(subject)
        images = {
            source: (load_labels(lesions).data * (truth.data != 2), load_labels(regions).data)
            for source, (lesions, regions) in _burden_sources(repeat, subject).items()
        }
        about = {"subject": subject.id, "scanner": subject.scanner, "repeat": repeat.repeat}
        for source, pair in images.items():
            error = split_error(*images[TRUTH], *pair, truth.voxel_ml)
            table = regional_burden(*pair, truth.voxel_ml).merge(error, on="region")
            tables.append(table.assign(**about, source=source)[[*about, "source", *table]])
    return pd.concat(tables)


def _burden_sources(study: Study, subject: Subject) -> dict[str, tuple[Path, Path]]:
    """Files of the lesions and the regions that each source combines."""

    def predicted(model: str, kind: str) -> Path:
        return _predicted(study, model, most_given(study, model), subject.id, kind)

    registered = _labelled(study, subject.id)
    sources = {TRUTH: (subject.lesions, subject.true_regions or registered)}
    if study.models_of("lesions"):
        lesions = predicted(choose_model(study, "lesions", MODALITIES), "lesions")
        sources["registered"] = (lesions, registered)
        if study.models_of("regions"):
            model = choose_model(study, "regions", MODALITIES)
            sources["separate"] = (lesions, predicted(model, "regions"))
    for model in study.models_of("multitask")[:1]:
        sources["joint"] = (predicted(model, "lesions"), predicted(model, "regions"))
    return sources


def _predicted(study: Study, model: str, given: str, subject: str, kind: str) -> Path:
    return made(study.prediction(model, given, subject, kind), "05_evaluation")


def _labelled(study: Study, subject: str) -> Path:
    return made(study.region_labels(subject), "02_atlas_registration")


def _predict_subject(
    study: Study, models: list[Model], made_by: dict[str, str], subject: Subject
) -> None:
    """Save all predictions of a subject, except those that the same models made of the same images.

    A file beside each prediction holds a fingerprint of what it was made by (``made_by``) and of.
    """
    torch.set_num_threads(study.compute.threads)  # each Python thread has its own setting
    waiting = []
    for model in models:
        made_of = fingerprint([subject.flair, subject.t1], made_by[model.name])
        for given in model.configuration.can_be_given:
            path = partial(study.prediction, model.name, given, subject.id)
            record = path("made_of").with_suffix("").with_suffix(".txt")
            complete = all(path(kind).exists() for kind in STRUCTURES[model.task])
            if not (complete and record.exists() and record.read_text() == made_of):
                waiting.append((given, model, path, record, made_of))
    if not waiting:
        return
    images = dict(zip(MODALITIES, load_pair(subject), strict=True))
    for asked, modalities in GIVEN.items():
        chosen = {m: images[m] for m in modalities}
        person = prepare(chosen, study.slices.voxel_size_mm)
        for given, model, path, record, made_of in waiting:
            if given == asked:
                record.unlink(missing_ok=True)
                answer = predict_prepared(model, person, study.evaluation)
                if answer.probability is not None:
                    lesions = answer.lesions(study.evaluation.threshold)
                    save_image(path("lesions"), lesions, answer.like)
                    # rounded to three decimals, so that the compressed file is small
                    save_image(path("probability"), answer.probability.round(3), answer.like)
                if answer.regions is not None:
                    save_image(path("regions"), answer.regions, answer.like)
                record.write_text(made_of)
