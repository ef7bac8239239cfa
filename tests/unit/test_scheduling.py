"""Snakemake's own work in runs of many files: hashes of inputs, and what makes a job run again."""

import subprocess
import sys

SNAKEFILE = """
import hashlib
from brainloom.cohort.scheduling import spare_the_scheduler

plain, counted = hashlib.file_digest, []


def file_digest(*args, **kwargs):
    counted.append(1)
    return plain(*args, **kwargs)


hashlib.file_digest = file_digest


onstart:
    if config["spare"]:
        spare_the_scheduler(workflow)


onsuccess:
    print("hashed", len(counted), "limited", workflow.scheduler.job_rate_limiter is not None)


rule many:
    input:
        expand("in{k}.txt", k=range(4)),
    output:
        expand("out{k}.txt", k=range(5)),
    shell:
        "cat {input} > out0.txt; for k in 1 2 3 4; do cp out0.txt out$k.txt; done"
"""


def run(folder, spare):
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--config", f"spare={spare}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_an_input_is_hashed_once_and_a_changed_one_is_noticed(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    for k in range(4):
        (tmp_path / f"in{k}.txt").write_text(f"{k}\n")
    assert "hashed 4 limited False" in run(tmp_path, True)
    (tmp_path / "in0.txt").write_text("0\n")  # another time, the same content
    assert "Nothing to be done" in run(tmp_path, True)
    (tmp_path / "in0.txt").write_text("9\n")
    run(tmp_path, True)
    assert (tmp_path / "out4.txt").read_text() == "9\n1\n2\n3\n"
    (tmp_path / "in1.txt").write_text("8\n")
    # without: once for each of the five outputs, and to see what changed
    assert "limited True" in (plain := run(tmp_path, False))
    assert int(plain.split("hashed ")[1].split()[0]) >= 20
