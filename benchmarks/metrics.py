"""Time the challenge's measures, ours and the challenge's own method with SimpleITK.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/metrics.py

It writes the results to ``benchmarks/metrics.md``.
"""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import binary_dilation

from wmh.analysis.evaluation import Case, evaluate
from wmh.analysis.metrics import connected_lesions, lesion_metrics
from wmh.cohorts.scanners import SCANNERS
from wmh.images import Image, save_image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests" / "analysis"))
from challenge_way import challenge_metrics  # noqa: E402

LESIONS = 150
SUBJECTS = 110
REPETITIONS = 15


def main() -> None:
    """Time every scanner's grid, then a whole test set, and write the report."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    rows = [_time_grid(name) for name in SCANNERS]
    faster = [int(row.split("|")[-2]) for row in rows]
    whole, wall = _time_test_set()
    text = REPORT.format(
        rows="\n".join(rows),
        least=min(faster),
        most=max(faster),
        whole=whole,
        wall=wall,
        subjects=SUBJECTS,
        lesions=LESIONS,
        repetitions=REPETITIONS,
        machine=f"{platform.machine()}, Python {platform.python_version()}",
        versions=", ".join(
            f"{name} {version(name)}"
            for name in ("numpy", "scipy", "connected-components-3d", "SimpleITK")
        ),
    )
    (HERE / "metrics.md").write_text(text)
    print(text)


REPORT = """# The challenge's measures

How fast `wmh.analysis.metrics.lesion_metrics` computes the challenge's five measures, compared with
the challenge's own method with SimpleITK (`tests/analysis/challenge_way.py`). Result: it is
{least} to {most} times faster, and all five measures agree to 1e-6.

Each row has {lesions} lesions scattered over the brain's part of a scanner's grid. The prediction
is the truth, shifted by a voxel and partly grown. Times are processor time on one thread, the
fastest of {repetitions} runs.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/metrics.py

| scanner | grid | lesions | challenge's method (ms) | wmh (ms) | times faster |
| --- | --- | ---: | ---: | ---: | ---: |
{rows}

`wmh evaluate` of {subjects} subjects on the Utrecht grid takes {whole:.1f} s of processor time and
{wall:.1f} s on the clock, with two threads. It reads the files and computes further measures, too.

{machine}; {versions}.

What makes the difference: only the box around the lesions is processed, distances are searched only
for surface voxels that the two masks do not share and for all points at once, and components come
from cc3d.
"""


def _time_grid(name: str) -> str:
    scanner = SCANNERS[name]
    truth, prediction = _masks(scanner.shape)
    affine = _oblique(scanner.voxel_size)
    expected = challenge_metrics(truth, prediction, affine)
    found = lesion_metrics(truth, prediction, affine)
    for measure, value in expected.items():
        np.testing.assert_allclose(found[measure], value, rtol=1e-6)
    theirs = _fastest_ms(lambda: challenge_metrics(truth, prediction, affine))
    ours = _fastest_ms(lambda: lesion_metrics(truth, prediction, affine))
    grid = " x ".join(map(str, scanner.shape))
    count = connected_lesions(truth == 1)[1]
    return f"| {name} | {grid} | {count} | {theirs:.0f} | {ours:.1f} | {theirs / ours:.0f} |"


def _time_test_set() -> tuple[float, float]:
    """Seconds of processor time, and on the clock."""
    scanner = SCANNERS["utrecht_philips_3t"]
    truth, prediction = _masks(scanner.shape)
    like = Image(truth, _oblique(scanner.voxel_size))
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("wmh.nii.gz", "lesions.nii.gz")]
        for file, data in zip(files, (truth, prediction), strict=True):
            save_image(file, data, like)
        cases = [
            Case(str(i), scanner.name, "", "", true_lesions=files[0], lesions=files[1])
            for i in range(SUBJECTS)
        ]
        clock, processor = time.perf_counter(), time.process_time()
        evaluate(cases, jobs=2)
        return time.process_time() - processor, time.perf_counter() - clock


def _masks(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A float32 truth and a uint8 prediction, in memory as NIfTI files are (x fastest)."""
    generator = np.random.default_rng(0)
    truth = np.zeros(shape, dtype=np.float32, order="F")
    centre = np.array(shape) / 2
    for radius in generator.choice([0, 0, 1, 1, 2, 3, 5], LESIONS):
        x, y, z = (centre + generator.normal(0, np.array(shape) / 7)).astype(int)
        truth[x - radius : x + radius + 1, y - radius : y + radius + 1, z : z + 1 + radius // 3] = 1
    prediction = np.roll(truth, 1, axis=0) > 0
    prediction[: shape[0] // 2] = binary_dilation(prediction[: shape[0] // 2])
    truth[:4, :9, :2] = 2
    return truth, np.asfortranarray(prediction.astype(np.uint8))


def _oblique(voxel_size: tuple[float, float, float]) -> np.ndarray:
    """An affine turned by 0.2 about x, as scans are tilted."""
    affine = np.diag([*np.float32(voxel_size), 1.0]).astype(float)
    cosine, sine = np.cos(0.2), np.sin(0.2)
    affine[:3, :3] = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]) @ affine[:3, :3]
    return affine


def _fastest_ms(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPETITIONS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return 1000 * min(times)


if __name__ == "__main__":
    main()
