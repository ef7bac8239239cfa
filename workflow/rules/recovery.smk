# Recovery and calibration, on request: snakemake --cores all recovery [--configfile <study>.yaml]. No part of `rule all`.


def recovery_files(wildcards):
    if config["fit"]["route"] != "fc":
        raise WorkflowError(
            f"the target recovery needs fit.route fc, and that of study {STUDY} is {config['fit']['route']};"
            " simulate and fit with the library instead (docs/howto-fitting.md)"
        )
    return [study_file("recovery.tsv"), study_file("recovery_summary.tsv"), study_file("recovery.html")]


rule recovery:
    input:
        recovery_files,


for batch in plan.batches:

    rule:
        name:
            f"recover_{batch.name}"
        message:
            "Simulate and refit " + named(batch)
        input:
            connectome=layout.datasets(STUDY, batch.subjects, "connectome"),
            signal=layout.datasets(STUDY, batch.subjects, "signal"),
            fit=layout.datasets(STUDY, batch.subjects, "fit"),
        output:
            layout.datasets(STUDY, batch.subjects, "recovery"),
        params:
            settings=SETTINGS["recover"],
            code=CODE["recover"],
            checkpoints=study_file("checkpoints"),
        log:
            layout.log_file(STUDY, "recover", batch.name),
        benchmark:
            layout.benchmark_file(STUDY, "recover", batch.name)
        threads: 1
        resources:
            mem_mb=4000,
            runtime=480,
        shell:
            "python -m brainloom.steps.recover --connectome {input.connectome:q} --signal {input.signal:q}"
            " --fit {input.fit:q} --output {output:q} --checkpoints {params.checkpoints:q}"
            " --params {params.settings:q} --threads {threads} >{log:q} 2>&1"


rule recovery_group:
    message:
        "Compare estimates with the truth"
    input:
        layout.datasets(STUDY, plan.subjects, "recovery"),
    output:
        table=study_file("recovery.tsv"),
        summary=study_file("recovery_summary.tsv"),
        page=study_file("recovery.html"),
    params:
        settings=SETTINGS["recovery_group"],
        code=CODE["recovery_group"],
        each=each(recovery="recovery"),
    log:
        layout.log_file(STUDY, "recovery_group"),
    benchmark:
        layout.benchmark_file(STUDY, "recovery_group")
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    shell:
        "python -m brainloom.steps.recovery_group {params.each} --output {output.table:q}"
        " --summary {output.summary:q} --page {output.page:q}"
        " --params {params.settings:q} --threads {threads} >{log:q} 2>&1"
