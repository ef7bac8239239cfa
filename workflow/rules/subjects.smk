# The per-subject steps. One rule a step and batch: it computes the subjects of the batch and writes one dataset each.
#
# All of them wait for the index, which checks every input first, but a new index must not make subjects run again that
# are done: so it is an `ancient` input. And it is a checkpoint, because Snakemake looks at the jobs behind a job that is
# to run only once that job is done if it is a checkpoint; otherwise their own changes go unnoticed behind `ancient`.

for batch in plan.batches:

    rule:
        name:
            f"preprocess_connectome_{batch.name}"
        message:
            "Read the connectomes of " + named(batch)
        input:
            inputs(plan, batch.subjects, "connectome"),
            index=ancient(study_file("index.tsv")),
        output:
            layout.datasets(STUDY, batch.subjects, "connectome"),
        params:
            settings=SETTINGS["preprocess_connectome"],
            code=CODE["preprocess_connectome"],
            folder=config["input"]["path"],
            subjects=batch.subjects,
        log:
            layout.log_file(STUDY, "preprocess_connectome", batch.name),
        benchmark:
            layout.benchmark_file(STUDY, "preprocess_connectome", batch.name)
        threads: 1
        resources:
            mem_mb=1000,
            runtime=30,
        shell:
            "python -m brainloom.steps.preprocess_connectome --input {params.folder:q}"
            " --subject {params.subjects:q} --output {output:q}"
            " --params {params.settings:q} --threads {threads} >{log:q} 2>&1"

    rule:
        name:
            f"preprocess_signal_{batch.name}"
        message:
            "Clean the recordings of " + named(batch)
        input:
            inputs(plan, batch.subjects, "signal"),
            index=ancient(study_file("index.tsv")),
        output:
            layout.datasets(STUDY, batch.subjects, "signal"),
        params:
            settings=SETTINGS["preprocess_signal"],
            code=CODE["preprocess_signal"],
            folder=config["input"]["path"],
            subjects=batch.subjects,
        log:
            layout.log_file(STUDY, "preprocess_signal", batch.name),
        benchmark:
            layout.benchmark_file(STUDY, "preprocess_signal", batch.name)
        threads: 1
        resources:
            mem_mb=2000 if config["modality"] == ["bold"] else 6000,
            runtime=30,
        shell:
            "python -m brainloom.steps.preprocess_signal --input {params.folder:q}"
            " --subject {params.subjects:q} --output {output:q}"
            " --params {params.settings:q} --threads {threads} >{log:q} 2>&1"

    rule:
        name:
            f"fit_{batch.name}"
        message:
            "Fit " + named(batch)
        input:
            connectome=layout.datasets(STUDY, batch.subjects, "connectome"),
            donor=layout.datasets(STUDY, [plan.donors[subject] for subject in batch.subjects], "connectome"),
            signal=layout.datasets(STUDY, batch.subjects, "signal"),
        output:
            layout.datasets(STUDY, batch.subjects, "fit"),
        params:
            settings=SETTINGS["fit"],
            code=CODE["fit"],
            checkpoints=study_file("checkpoints"),
        log:
            layout.log_file(STUDY, "fit", batch.name),
        benchmark:
            layout.benchmark_file(STUDY, "fit", batch.name)
        threads: 1
        resources:
            mem_mb=4000,
            runtime=480,
        shell:
            "python -m brainloom.steps.fit --connectome {input.connectome:q} --donor {input.donor:q}"
            " --signal {input.signal:q} --output {output:q} --checkpoints {params.checkpoints:q}"
            " --params {params.settings:q} --threads {threads} >{log:q} 2>&1"

    if config["reliability"] is not None:

        rule:
            name:
                f"reliability_{batch.name}"
            message:
                "Fit along a grid of regularisation " + named(batch)
            input:
                connectome=layout.datasets(STUDY, batch.subjects, "connectome"),
                donor=layout.datasets(STUDY, [plan.donors[subject] for subject in batch.subjects], "connectome"),
                signal=layout.datasets(STUDY, batch.subjects, "signal"),
            output:
                layout.datasets(STUDY, batch.subjects, "reliability"),
            params:
                settings=SETTINGS["reliability"],
                code=CODE["reliability"],
            log:
                layout.log_file(STUDY, "reliability", batch.name),
            benchmark:
                layout.benchmark_file(STUDY, "reliability", batch.name)
            threads: 1
            resources:
                mem_mb=4000,
                runtime=480,
            shell:
                "python -m brainloom.steps.reliability --connectome {input.connectome:q} --donor {input.donor:q}"
                " --signal {input.signal:q} --output {output:q}"
                " --params {params.settings:q} --threads {threads} >{log:q} 2>&1"

    rule:
        name:
            f"identify_{batch.name}"
        message:
            "Compute intervals for " + named(batch)
        input:
            connectome=layout.datasets(STUDY, batch.subjects, "connectome"),
            signal=layout.datasets(STUDY, batch.subjects, "signal"),
            fit=layout.datasets(STUDY, batch.subjects, "fit"),
        output:
            layout.datasets(STUDY, batch.subjects, "posterior"),
        params:
            settings=SETTINGS["identify"],
            code=CODE["identify"],
        log:
            layout.log_file(STUDY, "identify", batch.name),
        benchmark:
            layout.benchmark_file(STUDY, "identify", batch.name)
        threads: 1
        resources:
            mem_mb=4000,
            runtime=120,
        shell:
            "python -m brainloom.steps.identify --connectome {input.connectome:q} --signal {input.signal:q}"
            " --fit {input.fit:q} --output {output:q}"
            " --params {params.settings:q} --threads {threads} >{log:q} 2>&1"

    if SIMULATED:

        rule:
            name:
                f"simulate_{batch.name}"
            message:
                "Simulate " + named(batch)
            input:
                connectome=layout.datasets(STUDY, batch.subjects, "connectome"),
                signal=layout.datasets(STUDY, batch.subjects, "signal"),
                fit=layout.datasets(STUDY, batch.subjects, "fit"),
            output:
                datasets=layout.datasets(STUDY, batch.subjects, "simulation"),
                export=[
                    directory(layout.export_folder(STUDY, subject))
                    for subject in batch.subjects
                    if config["simulate"]["export"]
                ],
            params:
                settings=SETTINGS["simulate"],
                code=CODE["simulate"],
            log:
                layout.log_file(STUDY, "simulate", batch.name),
            benchmark:
                layout.benchmark_file(STUDY, "simulate", batch.name)
            threads: 1
            resources:
                mem_mb=4000,
                runtime=240,
            shell:
                "python -m brainloom.steps.simulate --connectome {input.connectome:q} --signal {input.signal:q}"
                " --fit {input.fit:q} --output {output.datasets:q}"
                " --params {params.settings:q} --threads {threads} >{log:q} 2>&1"

    rule:
        name:
            f"analyse_{batch.name}"
        message:
            "Score " + named(batch)
        input:
            connectome=layout.datasets(STUDY, batch.subjects, "connectome"),
            signal=layout.datasets(STUDY, batch.subjects, "signal"),
            fit=layout.datasets(STUDY, batch.subjects, "fit"),
            simulation=layout.datasets(STUDY, batch.subjects, "simulation") if SIMULATED else [],
        output:
            layout.datasets(STUDY, batch.subjects, "metrics"),
        params:
            settings=SETTINGS["analyse"],
            code=CODE["analyse"],
            simulation="--simulation" if SIMULATED else "",
        log:
            layout.log_file(STUDY, "analyse", batch.name),
        benchmark:
            layout.benchmark_file(STUDY, "analyse", batch.name)
        threads: 1
        resources:
            mem_mb=2000,
            runtime=60,
        shell:
            "python -m brainloom.steps.analyse --connectome {input.connectome:q} --signal {input.signal:q}"
            " --fit {input.fit:q} {params.simulation} {input.simulation:q} --output {output:q}"
            " --params {params.settings:q} --threads {threads} >{log:q} 2>&1"
