"""The command on lists of URLs: each image once or one record of why not, in bounded time, whatever servers do."""

import csv
import functools
import json
import time
from collections import Counter

import pytest

from tests.helpers import data_generation as data
from tests.helpers import web_server
from tests.helpers.killing import FLAGS, kill
from tests.helpers.running import run_pipeline
from tests.helpers.web_server import forever, hangs, head, image, in_turn, redirect, sends, status

pytestmark = pytest.mark.slow

JPEG = data.jpeg()
LIST = ("--input_format", "list", "--allow_private_hosts")


@pytest.fixture
def web():
    with web_server.serving() as server:
        yield server


def write_list(path, urls):
    path.write_text("".join(f"{url}\n" for url in urls))
    return path


def test_a_hostile_list_ends_in_time_with_one_record_an_image(tmp_path, web):
    reasons = {
        "/missing.jpg": (None, "NoSuchImage", False),
        "/forbidden.jpg": (status(403), "RefusedByServer", False),
        "/busy.jpg": (status(503, Retry_After=3), "ServerBusy", True),
        "/page.jpg": (image(b"<html>", Content_Type="image/jpeg"), "NotAnImage", False),
        "/text.jpg": (image(b"sorry", Content_Type="text/plain"), "NotAnImage", False),
        "/empty.jpg": (image(b""), "EmptyImage", False),
        "/garbage.jpg": (image(b"\xff\xd8\xff garbage"), "CorruptImage", False),
        "/truncated.jpg": (sends(head(Content_Length=2 * len(JPEG)) + JPEG), "BrokenConnection", True),
        "/closes.jpg": (sends(b""), "BrokenConnection", True),
        "/endless.jpg": (forever(head()), "TooLarge", False),
        "/10gb.jpg": (forever(head(Content_Length=10 * 2**30)), "TooLarge", False),
        "/bomb.jpg": (image(web_server.bomb(10 * 2**30), Content_Encoding="gzip"), "TooManyBytes", False),
        "/circle.jpg": (redirect("/circle.jpg"), "BadRedirect", False),
        "/file.jpg": (redirect("file:///etc/passwd"), "BadRedirect", False),
    }
    web.answers |= {path: answer for path, (answer, _, _) in reasons.items() if answer}
    web.answers |= {
        "/a b.jpg": image(JPEG),
        "/caf%C3%A9.jpg?x=1": image(JPEG),
        "/later.jpg": in_turn(status(429, Retry_After=1), image(JPEG)),
        "/moved.jpg": redirect(web.url("/a b.jpg", "localhost")),
    }
    good = [web.url(path) for path in ("/a b.jpg", "/café.jpg?x=1#front", "/later.jpg", "/moved.jpg")]
    web.answers["/a%20b.jpg"] = web.answers["/a b.jpg"]
    with web_server.serving() as silent:
        silent.answers = {f"/{i}": hangs(silent, head(Content_Length=9) if i % 2 else b"") for i in range(40)}
        hanging = [silent.url(path) for path in silent.answers]
        credentials = [web.url("/a.jpg").replace("http://", "http://me:secret@")]
        urls = [*hanging, *(web.url(path) for path in reasons), *good, good[0], *credentials, "http://nobody.invalid/"]
        start = time.monotonic()
        run = run_pipeline(tmp_path / "out", "--input", write_list(tmp_path / "list.txt", urls), *LIST)
        took = time.monotonic() - start
    assert run.code == 0, run.stderr
    assert run.counts == {"listed": len(set(urls)), "embedded": len(good), "failed": len(set(urls)) - len(good)}
    assert set(run.vectors()) == {url.encode() for url in good}
    failures = {failure["key"]: (failure["error"], failure["retryable"]) for failure in run.failures}
    assert len(run.failures) == len(failures)
    for path, (_, error, retryable) in reasons.items():
        assert failures[web.url(path)] == (error, retryable), path
    assert {failures[url] for url in hanging} == {("TookTooLong", True), ("SilentHost", True)}
    assert failures["http://nobody.invalid/"] == ("UnknownHost", True)
    assert failures[f"{tmp_path}/list.txt#{len(urls) - 2}"] == ("CredentialsInUrl", False)
    everything = [run.stdout, run.stderr, *(path.read_text(errors="ignore") for path in run.output.rglob("*.json*"))]
    assert not any("secret" in text for text in everything)
    assert took < 100


def test_lists_of_each_kind_and_a_second_run(tmp_path, web):
    names = [f"/{kind}/{i}.jpg" for kind in ("csv", "tsv", "jsonl") for i in range(3)]
    for number, name in enumerate(names):
        web.answers[name] = image(data.jpeg(number), ETag=f'"{number}"')
    urls = [web.url(name) for name in names]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("TEXT", "URL"), *(("a, cat", url) for url in urls[:3])])
    (tmp_path / "b.tsv").write_text("url\tcaption\n" + "".join(f"{url}\ta dog\n" for url in urls[3:6]))
    (tmp_path / "c.jsonl").write_text("".join(json.dumps({"url": url, "text": "x"}) + "\n" for url in urls[6:]))
    flags = ("--input", tmp_path / "*.[ctj]s*", *LIST)
    run = run_pipeline(tmp_path / "out", *flags, "--run_id", "first")
    assert run.code == 0, run.stderr
    assert run.counts == {"listed": 9, "embedded": 9} and set(run.vectors()) == {url.encode() for url in urls}
    assert {row["image/version"].decode() for row in run.rows} == {f'"{number}"' for number in range(9)}
    assert [request.method for request in web.requests] == ["GET"] * 9  # one request an image
    web.requests.clear()

    web.answers[names[0]] = image(data.jpeg(100), ETag='"new"')
    web.answers[names[1]] = status(404)
    again = run_pipeline(tmp_path / "out", *flags, "--run_id", "second")
    report = json.loads((tmp_path / "out/runs/second.json").read_text())
    counts = {name: count for name, count in report["counts"].items() if count}
    assert again.code == 0 and counts == {"listed": 9, "embedded": 1, "failed": 1, "skipped": 7}
    assert {name: web.asked(name) for name in names} == {
        name: ["HEAD", "GET"] if name in names[:2] else ["HEAD"] for name in names
    }
    assert [failure["error"] for failure in again.failures] == ["NoSuchImage"]


def test_private_hosts_are_refused_by_default_in_one_line_each(tmp_path, web):
    web.answers["/a.jpg"] = image(JPEG)
    hosts = "127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"
    urls = [*(web.url("/a.jpg", host) for host in hosts), "http://169.254.169.254/computeMetadata/v1/"]
    run = run_pipeline(tmp_path / "out", "--input", write_list(tmp_path / "list.txt", urls), "--input_format", "list")
    assert run.counts == {"listed": 5, "failed": 5} and not web.requests
    assert {failure["error"] for failure in run.failures} == {"PrivateAddress"}
    assert not any(failure["retryable"] for failure in run.failures)


def test_decoder_processes_read_urls_too(tmp_path, web):
    web.answers = {f"/{i}.jpg": image(data.jpeg(i)) for i in range(20)}
    urls = [web.url(path) for path in web.answers]
    flags = *LIST, "--decode_processes", "1"
    run = run_pipeline(tmp_path / "out", "--input", write_list(tmp_path / "list.txt", urls), *flags)
    assert run.counts == {"listed": 20, "embedded": 20}, run.stderr
    assert len(web.requests) == 20


def test_a_killed_run_goes_on_without_reading_what_is_stored(tmp_path, web):
    def slowly(connection, encoded, tag):
        time.sleep(0.3)
        return image(encoded, ETag=tag)(connection)

    for i in range(160):
        web.answers[f"/{i}.jpg"] = functools.partial(slowly, encoded=data.jpeg(i % 7), tag=f'"{i}"')
    listed = write_list(tmp_path / "list.txt", map(web.url, web.answers))
    flags = "--input", listed, *LIST, "--run_id", "r", *FLAGS
    stored = set(kill(tmp_path / "out", *flags, at=20))
    web.requests.clear()
    run = run_pipeline(tmp_path / "out", *flags)
    assert run.code == 0, run.stderr
    assert run.counts == {"listed": 160, "embedded": 160} and len(run.rows) == 160
    assert f"{len(stored)} vectors from earlier attempts" in run.stdout
    assert all(row["image/size"] > 0 and row["image/version"] for row in run.rows)
    methods = Counter(request.method for request in web.requests)
    assert methods["HEAD"] == 160 and methods["GET"] <= 160 - len(stored) + 6  # some are read for pictures of the page


def test_each_run_reads_images_without_a_version(tmp_path, web):
    web.answers["/a.jpg"] = image(JPEG)
    flags = "--input", write_list(tmp_path / "list.txt", [web.url("/a.jpg")]), *LIST
    for run_id in ("1", "2"):
        assert run_pipeline(tmp_path / "out", *flags, "--run_id", run_id).code == 0
        counts = json.loads((tmp_path / f"out/runs/{run_id}.json").read_text())["counts"]
        assert (counts["embedded"], counts["skipped"]) == (1, 0)
    assert web.asked("/a.jpg") == ["GET", "HEAD", "GET"]
