"""Prediction of a folder, several people per job: `wmh predict FOLDER --profile PROFILE` runs this.

It runs in the folder of the jobs, where wmh/pipeline/people.py has written jobs.json.
"""

import sys


configfile: "jobs.json"
localrules: all


rule all:
    input:
        [f"{part}.done" for part in config["parts"]],


rule people:
    output:
        "{part}.done",
    threads: 1
    resources:
        gpu=config["gpu"],
    shell:
        f"WMH_CORES={{threads}} {sys.executable} -m wmh.pipeline.people {{wildcards.part}}"
