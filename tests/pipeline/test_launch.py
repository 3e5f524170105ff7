"""pipeline.launch: exit codes and what is said, in this process; test_end_to_end.py starts the command itself."""

import contextlib
import dataclasses
import datetime
import json
import os
import re
import resource
import shlex
import subprocess
import time
from pathlib import Path

import apache_beam as beam
import pytest

from pipeline import check, graph
from pipeline.attempts import attempt, interruption
from pipeline.commands.frame import DONE, FAILED
from pipeline.commands.verify.verify import verify
from pipeline.flags import options
from tests.helpers import data_generation as data
from tests.helpers import onnx_models
from tests.helpers.running import ROOT, THREAD, Left, command


def logs(tmp_path):
    return list((tmp_path / "logs").iterdir())


@pytest.mark.slow
def test_more_failures_than_allowed_now_as_then(start, photos, tmp_path):
    done = start(photos, "--run_id=night", "--max_failure_rate=0.25")
    assert (done.code, done.counts) == (0, {"listed": 4, "embedded": 3, "failed": 1})
    again = start(photos, "--run_id=night", "--max_failure_rate=0.25")
    assert (again.code, again.stdout.splitlines()[0]) == (0, "the run 'night' is complete, nothing was done:")
    lower = start(photos, "--run_id=night", "--max_failure_rate=0.24")
    assert (lower.code, lower.stdout) == (1, again.stdout)
    anew = start(photos, "--run_id=anew", "--reprocess", "--max_failure_rate=0.24")
    assert anew.code == 1 and "4 images listed = 3 embedded + 1 failed" in anew.stdout
    assert anew.stderr == "run_pipeline.py: 1 of 4 images failed, 25.00%: more than --max_failure_rate 24.00%\n"
    assert logs(tmp_path) == []


@pytest.mark.slow
def test_a_run_in_which_every_image_failed(start, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no image")
    flags = (f"--input={tmp_path / 'photos'}", "--run_id=night")
    failed = start(*flags)
    assert (failed.code, failed.counts) == (1, {"listed": 1, "failed": 1})
    assert failed.stderr == "run_pipeline.py: 1 of 1 images failed: --max_failure_rate 1 allows it\n"
    assert start(*flags).code == 1
    assert start(*flags, "--max_failure_rate=1").code == 0


@pytest.mark.slow
def test_what_the_listing_left_out_is_in_the_report_and_the_summary(start, photos, tmp_path):
    for name in ("a.txt", "b.txt", "c.json", "._a.jpg", "@eaDir/thumb.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"no image")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "photos" / "broken.jpg").rename(tmp_path / "elsewhere" / "broken.jpg")
    (tmp_path / "photos" / "linked").symlink_to("../elsewhere")
    done = start(photos)
    assert (done.code, done.counts) == (0, {"listed": 4, "embedded": 3, "failed": 1})
    assert [failure["key"] for failure in done.failures] == [f"{tmp_path}/photos/linked/broken.jpg"]
    assert done.report["left_out"] == {"hidden": {"._*": 1, "@eaDir/": 1}, "other": {".txt": 2, ".json": 1}}
    assert (
        "  left out  2 hidden files (._* 1, @eaDir/ 1); --include_hidden takes hidden files too\n"
        "  left out  3 other files (.txt 2, .json 1), no images by name; "
        f"--input '{tmp_path}/photos/**.txt' takes .txt\n"
    ) in done.stdout


@pytest.mark.slow
def test_reprocessing_reads_nothing_of_earlier_runs(start, photos, tmp_path):
    earlier = tmp_path / "out" / "embeddings" / "earlier"
    earlier.mkdir(parents=True)
    (earlier / "part-00000-of-00001.tfrecord").write_bytes(b"no record")
    failed = start(photos)
    assert failed.code == 1 and "move it away" in failed.stderr
    done = start(photos, "--reprocess")
    assert (done.code, done.counts) == (0, {"listed": 4, "embedded": 3, "failed": 1})


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--batch_size=0"], "argument --batch_size: '0': expected a whole number from 1"),
        (["--bacth_size=8"], "did you mean --batch_size?"),
        (["--input=nowhere/*.jpg"], "matches nothing: expected at least one file"),
        (["--model=nothing"], "model='nothing': no such directory, archive or hub handle"),
        (["--precision=auto", "--direct_running_mode=multi_processing"], "--precision auto measures the machine"),
    ],
    ids=["value", "name", "input", "model", "precision"],
)
def test_what_is_wrong_is_one_line(start, instead, tmp_path, flags, said):
    def build(_):
        raise AssertionError("a job was built")

    instead(build)
    run = start(*flags)
    assert (run.code, run.stdout) == (2, "")
    assert run.stderr.startswith("run_pipeline.py: ") and run.stderr.count("\n") == 1 and said in run.stderr
    assert logs(tmp_path) == [] and not run.output.exists()


def test_a_job_that_fails_is_one_line_and_a_log(start, instead, photos, tmp_path):
    def build(_):
        raise RuntimeError("first\nlast\n")

    instead(build)
    run = start(photos)
    assert (run.code, run.stdout) == (1, "")
    said = re.fullmatch(r"run_pipeline\.py: the job failed: first; all that was logged: (.+)\n", run.stderr)
    assert said and Path(said[1]) in logs(tmp_path)
    assert "Traceback" in Path(said[1]).read_text()


@pytest.mark.parametrize("state", ["DONE", None, "FAILED", "CANCELLED"])
def test_what_the_runner_says_in_the_end(start, instead, photos, monkeypatch, state):
    class _Result:
        def wait_until_finish(self):
            return state

    instead(lambda pipeline: None)
    monkeypatch.setattr(beam.Pipeline, "run", lambda self: _Result())
    run = start(photos, "--run_id=night")
    if state in ("DONE", None):
        # Nothing has written a report: a job that goes on elsewhere.
        assert (run.code, run.stderr) == (0, "")
        assert run.stdout == f"the job was submitted; its report will be {run.output}/runs/night.json\n"
    else:
        assert run.code == 1 and f"the job failed: the runner says {state}; all that was logged: " in run.stderr


@pytest.mark.parametrize(
    ("interrupt", "code"), [(KeyboardInterrupt, 130), (interruption.Terminated, 143)], ids=["SIGINT", "SIGTERM"]
)
@pytest.mark.parametrize("in_a_bundle", [False, True])
def test_an_interruption_ends_the_process_at_once(start, instead, leaves, photos, capfd, in_a_bundle, interrupt, code):
    def build(_):
        if in_a_bundle:
            try:
                raise interrupt
            except KeyboardInterrupt as interrupted:
                raise RuntimeError("bundle failed") from interrupted
        raise interrupt

    instead(build)
    with pytest.raises(Left) as left:
        start(photos, "--run_id=night")
    assert left.value.args == (code,)
    printed = capfd.readouterr()
    line = (
        r"\nrun_pipeline\.py: interrupted: all vectors so far are stored in .*; "
        r"to go on: python run_pipeline\.py --output=.* --run_id=night\n"
    )
    assert printed.out == "" and re.fullmatch(line, printed.err), printed.err


def test_an_interruption_before_any_work(start, leaves, photos, monkeypatch, capfd, tmp_path):
    def interrupt(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "check_inputs", interrupt)
    with pytest.raises(Left) as left:
        start(photos)
    assert left.value.args == (130,)
    assert capfd.readouterr().err == "\nrun_pipeline.py: interrupted before any work started\n"
    assert not (tmp_path / "out").exists()


FULL = "run_pipeline.py: stdout cannot be written: [Errno 28] No space left on device\n"


@pytest.mark.slow
@pytest.mark.parametrize("is_full", [True, False], ids=["a full disk", "a reader that has gone"])
def test_a_stdout_that_takes_nothing_changes_nothing_about_a_run(photos, tmp_path, is_full):
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full" if is_full else writer, "wb") as stdout:
        for flags, code in (((), DONE), ((), DONE), (["--max_failure_rate=0.1"], FAILED), (["--explain"], None)):
            argv = command(f"--output={tmp_path / 'out'}", photos, "--run_id=night", *THREAD, *flags)
            done = subprocess.run(argv, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
            assert done.returncode == ((FAILED if is_full else DONE) if code is None else code), done.stderr
            assert done.stderr == (FULL if is_full else "")
    assert (tmp_path / "out" / "runs" / "night.json").exists() and not list(tmp_path.glob("out/runs/*.unfinished"))


def test_explaining_runs_nothing(start, instead, tmp_path):
    instead(lambda pipeline: pytest.fail("a job was built"))
    run = start("--input=nowhere/*.jpg", "--explain")
    assert (run.code, run.stderr) == (0, "") and run.stdout.startswith("runner ")
    assert not Path(run.output).exists() and logs(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["in_memory", "multi_processing"])
def test_a_model_replaced_after_the_launch(start, photos, tmp_path, monkeypatch, mode):
    """A process that has loaded it goes on with it; another one ends the job, and no vector gets its digest."""
    model = onnx_models.write(tmp_path / "m.onnx", external="w.bin")
    build = graph.build

    def replaced(*args, **settings):
        (tmp_path / "w.bin").write_bytes(bytes((tmp_path / "w.bin").stat().st_size))
        return build(*args, **settings)

    monkeypatch.setattr(graph, "build", replaced)
    flags = (photos, "--run_id=night", f"--model={model}", "--image_size=6x5", f"--direct_running_mode={mode}")
    done = start(*flags, "--max_failure_rate=1")
    if mode == "in_memory":
        assert done.code == DONE and all(vector.any() for vector in done.vectors().values())
        return
    *_, last = done.stderr.splitlines()
    assert done.code == FAILED and last.startswith("run_pipeline.py: the job failed: "), done.stderr
    assert "are not those that the launch found" in last and "launch a new run" in last
    assert not list((tmp_path / "out").glob("**/part-*"))


@pytest.mark.slow
def test_a_broken_file_of_failures_is_named_and_the_others_are_tried_again(start, tmp_path):
    photos = data.write_images(tmp_path / "photos", 2, height=24, width=32)
    late = [{"key": str(path), "retryable": True, "is_file": True} for path in photos]
    whole, cut = (tmp_path / "out" / "failures" / run / "part-00000-of-00001.jsonl" for run in ("whole", "cut"))
    for path, content in ((whole, json.dumps(late[0]) + "\n"), (cut, json.dumps(late[1])[:-9])):
        path.parent.mkdir(parents=True)
        path.write_text(content)
    done = start("--retry_failed", "--run_id=again")
    assert (done.code, done.counts) == (0, {"listed": 2, "embedded": 1, "failed": 1})
    assert "1 × BrokenFailures in the stage list" in done.stdout
    (failure,) = json.loads("[" + (tmp_path / "out/failures/again/part-00000-of-00001.jsonl").read_text() + "]")
    assert failure["key"] == str(cut) and f"{cut}: line 1: " in failure["message"]


@contextlib.contextmanager
def files_of_at_most(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
def test_a_page_that_a_disk_does_not_take_is_said_and_made_by_the_printed_command(start, photos, tmp_path):
    with files_of_at_most(24_000):  # the vectors of three images take 16 KB, and the page more than 30
        done = start(photos, "--max_failure_rate=0.5")
    (report,) = (tmp_path / "out" / "runs").glob("*.json")
    page = report.with_suffix(".html")
    assert (done.code, done.counts) == (0, {"listed": 4, "embedded": 3, "failed": 1}) and not page.exists()
    printed = re.search(r"  warning   no page, (.+); this makes it: python run_pipeline.py (.+)\n", done.stdout)
    assert "File too large" in printed[1] and done.report["page_error"] == printed[1]
    assert verify(str(tmp_path / "out")).total == 0

    own = shlex.split(printed[2])[1 + len(THREAD) :]  # `start` adds the others
    again = start(*own)
    assert again.code == 0 and "is complete, its page was made:\n" in again.stdout
    assert "warning" not in again.stdout and f"page      {page}\n" in again.stdout
    text = page.read_text()
    assert text.count("url(data:image/jpeg") == 3 and "broken.jpg" in text
    assert again.report["page_error"] == "" and verify(str(tmp_path / "out")).total == 0

    page.unlink()
    assert start(*own).code == 0 and page.exists()


@pytest.mark.slow
def test_the_time_in_the_summary_is_that_until_its_last_line(start, photos, monkeypatch):
    finish = attempt.Attempt.finish

    def late(self):
        time.sleep(1.5)  # what this stands for takes time: naming, publishing, a page
        finish(self)

    monkeypatch.setattr(attempt.Attempt, "finish", late)
    began = time.monotonic()
    done = start(photos)
    waited = time.monotonic() - began
    shown = float(re.search(r"(\S+) s in all", done.stdout)[1])
    assert done.report["elapsed_seconds"] + 1.5 <= shown <= waited + 0.1  # it is rounded


@pytest.mark.slow
def test_a_clock_that_is_set_back_during_a_run_makes_no_time_negative(start, photos, tmp_path, monkeypatch):
    parse, later = options.parse, datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=2)

    def before_the_clock_is_set_back(argv):
        config, beam_args = parse(argv)
        return dataclasses.replace(config, started_at=later), beam_args

    monkeypatch.setattr(options, "parse", before_the_clock_is_set_back)
    done = start(photos)
    assert done.code == 0 and "  speed     0.0 images/s, 0.0 s in all\n" in done.stdout
    assert done.report["elapsed_seconds"] == 0.0 and verify(str(tmp_path / "out")).total == 0
