# What concerns the cohort as a whole: its index before any compute, the group tables and the report after it.


# A checkpoint, because the jobs that wait for it must not depend on its content: see workflow/rules/subjects.smk.
checkpoint index_cohort:
    message:
        "Check every input of the cohort"
    input:
        inputs(plan, plan.subjects),
    output:
        study_file("index.tsv"),
    params:
        settings=SETTINGS["index_cohort"],
        code=CODE["index_cohort"],
        excluded=plan.excluded,
        folder=config["input"]["path"],
    log:
        layout.log_file(STUDY, "index_cohort"),
    benchmark:
        layout.benchmark_file(STUDY, "index_cohort")
    threads: 1
    resources:
        mem_mb=1000,
        runtime=20,
    shell:
        "python -m brainloom.steps.index_cohort --input {params.folder:q} --output {output:q}"
        " --params {params.settings:q} --threads {threads} >{log:q} 2>&1"


DATASETS = {kind: layout.datasets(STUDY, plan.subjects, kind) for kind in KINDS}
# What only some studies have, and the group reads. Pooled fits read all subjects, so they are made again when the cohort changes.
OPTIONAL = {}

if config["reliability"] is not None:
    OPTIONAL["reliability"] = layout.datasets(STUDY, plan.subjects, "reliability")

if config["pool"] is not None:

    rule pool:
        message:
            "Fit every subject around a prior from the others"
        input:
            connectome=layout.datasets(STUDY, plan.subjects, "connectome"),
            signal=layout.datasets(STUDY, plan.subjects, "signal"),
            maps=maps_file(config),
        output:
            pooled=layout.datasets(STUDY, plan.subjects, "pooled"),
            cohort=study_file("pool.zarr.zip"),
        params:
            settings=SETTINGS["pool"],
            code=CODE["pool"],
            each=each(connectome="connectome", signal="signal", output="pooled"),
            maps=shlex.join(f"--maps={path}" for path in maps_file(config)),
        log:
            layout.log_file(STUDY, "pool"),
        benchmark:
            layout.benchmark_file(STUDY, "pool")
        threads: 1
        resources:
            mem_mb=4000,
            runtime=480,
        shell:
            "python -m brainloom.steps.pool {params.each} --cohort {output.cohort:q} {params.maps}"
            " --params {params.settings:q} --threads {threads} >{log:q} 2>&1"

    OPTIONAL |= {"pooled": rules.pool.output.pooled, "pool": rules.pool.output.cohort}

# Tests of covariates read the table of participants and write a table of their own.
if participants_file(config):
    (OPTIONAL["participants"],) = participants_file(config)

# Of the group's inputs, those with a file a subject.
PER_SUBJECT = [*KINDS, *(name for name in ("reliability", "pooled") if name in OPTIONAL)]
EFFECTS = {}

if config["group"]["tests"]:
    EFFECTS["effects"] = report(study_file("effects.tsv"), caption="../report/effects.rst", category="Tables")


rule group:
    message:
        "Compare subjects and collect the tables"
    input:
        **DATASETS,
        **OPTIONAL,
        index=study_file("index.tsv"),
    output:
        **EFFECTS,
        group=study_file("group.zarr.zip"),
        metrics=report(study_file("metrics.tsv"), caption="../report/metrics.rst", category="Tables"),
        parameters=report(study_file("parameters.tsv"), caption="../report/parameters.rst", category="Tables"),
        cohort=report(study_file("cohort.tsv"), caption="../report/cohort.rst", category="Tables"),
    params:
        settings=SETTINGS["group"],
        code=CODE["group"],
        tables=study_file(""),
        each=each(**{name: name for name in PER_SUBJECT}),
        single=shlex.join(f"--{name}={path}" for name, path in OPTIONAL.items() if name not in PER_SUBJECT),
    log:
        layout.log_file(STUDY, "group"),
    benchmark:
        layout.benchmark_file(STUDY, "group")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        "python -m brainloom.steps.group --index {input.index:q} {params.each} {params.single}"
        " --output {output.group:q} --tables {params.tables:q}"
        " --params {params.settings:q} --threads {threads} >{log:q} 2>&1"


rule report:
    message:
        "Write the report"
    input:
        group=rules.group.output.group,
        tables=[rules.group.output.metrics, rules.group.output.parameters, rules.group.output.cohort],
        **DATASETS,
        truth=truth_file(config),
    output:
        page=report(study_file("report.html"), caption="../report/report.rst", category="Cohort report"),
        provenance=report(study_file("provenance.json"), caption="../report/provenance.rst", category="Provenance"),
    params:
        settings=SETTINGS["report"],
        code=CODE["report"],
        tables=study_file(""),
        each=each(**{kind: kind for kind in KINDS}),
        benchmarks=study_file("benchmarks"),
        truth=shlex.join(f"--truth={path}" for path in truth_file(config)),
    log:
        layout.log_file(STUDY, "report"),
    benchmark:
        layout.benchmark_file(STUDY, "report")
    threads: 1
    resources:
        mem_mb=3000,
        runtime=30,
    shell:
        "python -m brainloom.steps.report --group {input.group:q} --tables {params.tables:q}"
        " {params.each} --benchmarks {params.benchmarks:q} {params.truth}"
        " --output {output.page:q} --provenance {output.provenance:q}"
        " --params {params.settings:q} --threads {threads} >{log:q} 2>&1"
