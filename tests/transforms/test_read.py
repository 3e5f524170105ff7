"""transforms.read: files, TFRecords, tars; and what is broken in each."""

import dataclasses
import gzip
import io
import os
import random
import tarfile
import zlib

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from tests.helpers import data_generation as data
from transforms import read
from transforms.concurrent import in_flight
from transforms.elements.records import EncodedBlock, EncodedImage, ImageRef
from transforms.encoding import compressed, tfrecord
from transforms.read import ReadImages
from transforms.storage import files, read_image, versioned
from transforms.storage.context import DEFAULT_STORAGE, Storage
from transforms.storage.stores import gcs
from transforms.storage.versioned import ChangedSinceListed


def ref(path):
    return versioned.ref_of(files.described(str(path)))


def pairs(block):
    return [(image.ref.key, image.encoded) for image in block.images]


def check(refs, input_format, images, failures=()):
    """Asserts what ReadImages gives: {key: bytes} of the images, and (key, error, retryable) of the failures."""
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        outputs = pipeline | beam.Create(refs) | ReadImages(input_format)
        found = outputs.main | beam.FlatMap(pairs)
        failed = outputs.failures | beam.Map(lambda failure: (failure.key, failure.error, failure.retryable))
        assert_that(found, equal_to([(os.fsencode(k), v) for k, v in images.items()]), label="images")
        assert_that(failed, equal_to([(os.fsencode(k), e, r) for k, e, r in failures]), label="failures")


def test_files(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"one")
    (tmp_path / "b.jpg.gz").write_bytes(b"two, as stored")
    check(
        [ref(tmp_path / "a.jpg"), ref(tmp_path / "b.jpg.gz"), ImageRef(os.fsencode(tmp_path / "gone.jpg"), "v", 3)],
        "images",
        {tmp_path / "a.jpg": b"one", tmp_path / "b.jpg.gz": b"two, as stored"},
        [(tmp_path / "gone.jpg", "ChangedSinceListed", True)],
    )


def test_a_file_that_changed_since_it_was_listed(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"one")
    os.utime(path, (1, 1))
    listed = ref(path)
    os.utime(path, (2, 2))
    with pytest.raises(ChangedSinceListed, match="a.jpg: expected version 3-1.000000 as listed, found 3-2.000000"):
        read_image.read(DEFAULT_STORAGE, listed)
    path.write_bytes(b"three")
    with pytest.raises(ChangedSinceListed, match="expected size 3 as listed, found more"):
        read_image.read(DEFAULT_STORAGE, listed)
    shard = data.write_tar(tmp_path / "s.tar", {"1.jpg": b"one"})
    listed = ref(shard)
    os.utime(shard, (1, 1))
    check([listed], "tar", {}, [(shard, "ChangedSinceListed", True)])


def test_a_uri_of_a_list_that_is_not_there(tmp_path):
    gone, elsewhere = os.fsencode(tmp_path / "gone.jpg"), b"nowhere://x/y.jpg"
    check(
        [ImageRef(gone, "", -1), ImageRef(elsewhere, "", -1)],
        "list",
        {},
        [(gone, "FileNotFoundError", True), (elsewhere, "ValueError", False)],
    )


def test_too_many_bytes_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(read_image, "MAX_ENCODED_BYTES", 10)
    (tmp_path / "a.jpg").write_bytes(bytes(11))
    with pytest.raises(read_image.TooManyBytes, match="11 bytes: expected an image of at most 10"):
        read_image.read(DEFAULT_STORAGE, ref(tmp_path / "a.jpg"))


def example(**features):
    feature = {
        name.replace("__", "/"): tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in features.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def test_tfrecords(tmp_path):
    shard = data.write_tfrecords(
        tmp_path / "s.tfrecord",
        [
            example(image__encoded=b"one", image__key=b"k1"),
            example(image__encoded=b"two"),
            example(label=b"3"),
            b"noise",
        ],
    )
    check(
        [ref(shard)],
        "tfrecord",
        {b"k1": b"one", f"{shard}#1": b"two"},
        [(f"{shard}#2", "ValueError", False), (f"{shard}#3", "ValueError", False)],
    )


def test_a_tfrecord_file_that_breaks_keeps_what_came_before(tmp_path):
    shard = data.write_tfrecords(
        tmp_path / "s.tfrecord", [example(image__encoded=b"one"), example(image__encoded=b"two")]
    )
    shard.write_bytes(shard.read_bytes()[:-3])
    check([ref(shard)], "tfrecord", {f"{shard}#0": b"one"}, [(shard, "BrokenFile", False)])


def test_a_broken_record_costs_itself_alone(tmp_path):
    records = [example(image__encoded=b"image %d" % number) for number in range(13)]
    shard = data.write_tfrecords(tmp_path / "s.tfrecord", records)
    content = bytearray(shard.read_bytes())
    content[sum(map(tfrecord.framed_bytes, records[:5])) + 20] ^= 1
    shard.write_bytes(content)
    images = {f"{shard}#{number}": b"image %d" % number for number in range(13) if number != 5}
    check([ref(shard)], "tfrecord", images, [(f"{shard}#5", "BrokenRecord", False)])


def test_a_broken_length_ends_the_file(tmp_path):
    records = [example(image__encoded=b"image %d" % number) for number in range(13)]
    shard = data.write_tfrecords(tmp_path / "s.tfrecord", records)
    content = bytearray(shard.read_bytes())
    content[sum(map(tfrecord.framed_bytes, records[:5]))] ^= 1
    shard.write_bytes(content)
    images = {f"{shard}#{number}": b"image %d" % number for number in range(5)}
    check([ref(shard)], "tfrecord", images, [(shard, "BrokenFile", False)])


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress], ids=["GZIP", "ZLIB"])
def test_compressed_tfrecords(tmp_path, compress):
    shard = data.write_tfrecords(tmp_path / "s", [example(image__encoded=b"one"), example(image__encoded=b"two")])
    shard.write_bytes(compress(shard.read_bytes()))
    check([ref(shard)], "tfrecord", {f"{shard}#0": b"one", f"{shard}#1": b"two"})
    shard.write_bytes(shard.read_bytes()[:-5])
    check([ref(shard)], "tfrecord", {f"{shard}#0": b"one", f"{shard}#1": b"two"}, [(shard, "BrokenStream", False)])


def test_records_that_bring_the_same_key(tmp_path):
    shard = data.write_tfrecords(
        tmp_path / "s", [example(image__encoded=content, image__key=b"k") for content in (b"one", b"two")]
    )
    check([ref(shard)], "tfrecord", {b"k": b"one", f"{shard}#1": b"two"})


def test_a_record_that_brings_the_key_of_another(tmp_path):
    path = tmp_path / "s"
    own = f"{path}#1".encode()
    shard = data.write_tfrecords(path, [example(image__encoded=b"one", image__key=own), example(image__encoded=b"two")])
    check([ref(shard)], "tfrecord", {f"{shard}#0": b"one", f"{shard}#1": b"two"})


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2"])
def test_tar_in_webdataset_layout(tmp_path, mode):
    shard = data.write_tar(
        tmp_path / "s.tar",
        {
            "0001.jpg": b"one",
            "0001.json": b"{}",
            "0001.cls": b"3",
            "sub/0002.PNG": b"two",
            "../../etc/x.webp": b"three",
        },
        mode,
    )
    check(
        [ref(shard)],
        "tar",
        {f"{shard}#0001.jpg": b"one", f"{shard}#sub/0002.PNG": b"two", f"{shard}#../../etc/x.webp": b"three"},
    )


@pytest.mark.parametrize("include_hidden", [False, True])
def test_members_of_a_tar_that_are_passed_over_are_counted(tmp_path, include_hidden):
    """As macOS packs them: thumbnails and resource forks beside the images."""
    members = {"._a.jpg": b"fork", "a.jpg": b"one", "__MACOSX/._a.jpg": b"fork", ".b.jfif": b"two", "._a.txt": b"fork"}
    members |= {"a.json": b"{}", "b.json": b"{}", "a.jxl": b"x", "README": b"x"}
    shard = data.write_tar(tmp_path / "s.tar", members)
    images = ["._a.jpg", "a.jpg", "__MACOSX/._a.jpg", ".b.jfif"] if include_hidden else ["a.jpg"]
    left_out = [("other", ".json", 2), ("other", ".jxl", 1), ("other", "no extension", 1)]
    if include_hidden:
        left_out.append(("other", ".txt", 1))
    else:
        left_out += [("hidden", "._*", 2), ("hidden", "__MACOSX/", 1), ("hidden", ".*", 1)]
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        outputs = pipeline | beam.Create([ref(shard)]) | ReadImages("tar", include_hidden=include_hidden)
        found = outputs.main | beam.FlatMap(pairs)
        counted = outputs.left_out | beam.Map(lambda counted: (counted.why, counted.name, counted.files))
        assert_that(found, equal_to([(os.fsencode(f"{shard}#{n}"), members[n]) for n in images]), label="images")
        assert_that(counted, equal_to(left_out), label="left out")


def test_images_of_a_tar_by_rare_names(tmp_path):
    members = {f"{suffix}{suffix}": b"x" for suffix in (".jfif", ".jpe", ".apng", ".DIB", ".hif")}
    members = {f"a{name}": content for name, content in members.items()}
    shard = data.write_tar(tmp_path / "s.tar", members)
    check([ref(shard)], "tar", {f"{shard}#{name}": content for name, content in members.items()})


def test_tar_members_that_are_no_files(tmp_path):
    shard = tmp_path / "s.tar"
    with tarfile.open(shard, "w") as tar:
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        name = tarfile.TarInfo(os.fsdecode(b"caf\xe9.jpg"))
        name.size = 3
        tar.addfile(name, io.BytesIO(b"one"))
    check(
        [ref(shard)],
        "tar",
        {os.fsencode(shard) + b"#caf\xe9.jpg": b"one"},
        [(f"{shard}#link.jpg", "NotARegularFile", False)],
    )


def test_a_tar_that_breaks_keeps_what_came_before(tmp_path):
    shard = data.write_tar(tmp_path / "s.tar", {"1.jpg": bytes(2000), "2.jpg": bytes(2000)})
    shard.write_bytes(shard.read_bytes()[:4000])
    (tmp_path / "t.tar").write_bytes(b"no tar at all")
    check(
        [ref(shard), ref(tmp_path / "t.tar")],
        "tar",
        {f"{shard}#1.jpg": bytes(2000)},
        [(shard, "ReadError", False), (tmp_path / "t.tar", "ReadError", False)],
    )


def test_tar_members_of_the_same_name(tmp_path):
    shard = tmp_path / "s.tar"
    with tarfile.open(shard, "w") as tar:
        for content in (b"one", b"two", b"three"):
            info = tarfile.TarInfo("a.jpg")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    check([ref(shard)], "tar", {f"{shard}#a.jpg": b"one", f"{shard}#a.jpg#1": b"two", f"{shard}#a.jpg#2": b"three"})


def test_a_compressed_tar_of_several_streams(tmp_path):
    shard = data.write_tar(tmp_path / "s.tar", {"1.jpg": bytes(2000), "2.jpg": b"two"})
    content = shard.read_bytes()
    shard.write_bytes(gzip.compress(content[:1000]) + gzip.compress(content[1000:]))
    check([ref(shard)], "tar", {f"{shard}#1.jpg": bytes(2000), f"{shard}#2.jpg": b"two"})


def test_a_tar_that_expands_without_end_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(compressed, "FREE_BYTES", 2**20)
    shard = data.write_tar(tmp_path / "s.tar", {"1.jpg": b"one", "zeros.bin": bytes(2**26), "2.jpg": b"two"}, "w:gz")
    check([ref(shard)], "tar", {f"{shard}#1.jpg": b"one"}, [(shard, "BrokenStream", False)])


@pytest.mark.parametrize("input_format", ["images", "tar", "tfrecord"])
def test_what_is_no_regular_file(tmp_path, input_format):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    keys = [os.fsencode(tmp_path / name) for name in ("pipe", "zero")]
    check([ImageRef(key) for key in keys], input_format, {}, [(key, "NotARegularFile", False) for key in keys])


def test_files_of_a_disk_are_read_in_blocks(tmp_path):
    sizes = [10] * 20 + [read._BLOCK_BYTES - 5] + [10] * 3
    for i, size in enumerate(sizes):
        (tmp_path / f"{i:02}.jpg").write_bytes(bytes(size))
    refs = [ref(tmp_path / f"{i:02}.jpg") for i in range(len(sizes))] + [ImageRef(b"/gone.jpg", "1", 3)]
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        outputs = pipeline | beam.Create(refs, reshuffle=False) | ReadImages()
        lengths = outputs.main | beam.Map(len)
        items = outputs.seconds | "Items" >> beam.Map(lambda busy: (busy.stage, busy.items))
        # A block is full after sixteen images, or after a mebibyte. The failure is no part of a block.
        assert_that(lengths, equal_to([16, 5, 3]), label="lengths")
        assert_that(items, equal_to([("read", 16), ("read", 5), ("read", 4)]), label="items")


@pytest.mark.parametrize("input_format", ["tar", "tfrecord"])
def test_images_of_a_shard_come_in_blocks(tmp_path, input_format):
    contents = [b"%d" % i for i in range(20)]
    if input_format == "tar":
        shard = data.write_tar(tmp_path / "shard", {f"{i:02}.jpg": content for i, content in enumerate(contents)})
    else:
        shard = data.write_tfrecords(tmp_path / "shard", [example(image__encoded=content) for content in contents])
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        outputs = pipeline | beam.Create([ref(shard)]) | ReadImages(input_format)
        assert_that(outputs.main | beam.Map(len), equal_to([16, 4]), label="lengths")
        assert_that(outputs.main | beam.FlatMap(pairs) | beam.Values(), equal_to(contents), label="images")


def test_images_that_are_done_are_passed_over(tmp_path):
    shards = [data.write_tar(tmp_path / f"{name}.tar", {"1.jpg": b"one", "2.jpg": b"two"}) for name in "ab"]
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        refs = pipeline | "Refs" >> beam.Create([ref(shard) for shard in shards])
        done = pipeline | "Done" >> beam.Create([(os.fsencode(shards[0]), 1)])
        found = ({"refs": refs, "done": done} | ReadImages("tar")).main | beam.FlatMap(pairs) | beam.Keys()
        rest = [f"{shards[0]}#1.jpg", f"{shards[1]}#1.jpg", f"{shards[1]}#2.jpg"]
        assert_that(found, equal_to(list(map(os.fsencode, rest))))


def test_too_little_memory_is_a_failure_of_a_plain_text(tmp_path, monkeypatch):
    (tmp_path / "a.jpg").write_bytes(b"one")

    def raises(storage, ref):
        raise MemoryError

    monkeypatch.setattr(read_image, "read", raises)
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        failed = (pipeline | beam.Create([ref(tmp_path / "a.jpg")]) | ReadImages()).failures
        messages = failed | beam.Map(lambda failure: (failure.error, failure.message, failure.retryable))
        message = f"too little memory to read {tmp_path}/a.jpg: expected room for 3 bytes"
        assert_that(messages, equal_to([("MemoryError", message, True)]))


def test_unknown_format():
    with pytest.raises(ValueError, match="input_format='zip': expected one of images, list, tfrecord, tar"):
        ReadImages("zip")


@pytest.mark.parametrize("concurrency", [0, 257])
def test_concurrency_is_checked_at_construction(concurrency):
    with pytest.raises(ValueError, match="expected from 1 to 256 requests in flight"):
        ReadImages("images", concurrency)


def upload(name, content, **properties):
    """Uploads an object, and returns the ref that a listing gives."""
    blob = gcs.client().bucket("photos").blob(name)
    for field, value in properties.items():
        setattr(blob, field, value)
    blob.upload_from_string(content)
    path = f"gs://photos/{name}"
    return versioned.ref_of(gcs.described(DEFAULT_STORAGE, path))


def test_objects_are_read_by_one_request_each_and_many_at_once(server):
    refs = [upload(f"{i}.jpg", b"%d" % i * 1000) for i in range(40)]
    refs[7] = dataclasses.replace(refs[7], has_copies=True)
    server.requests.clear()
    server.delay, server.largest_at_once = 0.05, 0
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        blocks = (pipeline | beam.Create(refs) | ReadImages("images", 8, Storage("payer"))).main
        expected = [
            EncodedImage(ImageRef(r.key, r.version, len(b"%d" % i * 1000), r.crc32c, r.has_copies), b"%d" % i * 1000)
            for i, r in enumerate(refs)
        ]
        assert_that(blocks | beam.FlatMap(lambda block: block.images), equal_to(expected))
    assert [method for method, _ in server.requests] == ["GET"] * 40
    assert sorted(query["generation"][0] for query in server.queries()) == sorted(r.version for r in refs)
    assert all(query["userProject"] == ["payer"] for query in server.queries())
    assert 4 <= server.largest_at_once <= 8


def test_few_bytes_wait_at_once(server, monkeypatch):
    monkeypatch.setattr(in_flight, "MAX_WAITING_BYTES", 2500)
    monkeypatch.setattr(read, "_BLOCK_BYTES", 1000)
    refs = [upload(f"{i}.jpg", bytes(1000)) for i in range(12)]
    server.delay, server.largest_at_once = 0.05, 0
    check(refs, "images", {r.key: bytes(1000) for r in refs})
    assert server.largest_at_once == 2


def test_objects_that_changed_or_are_gone(server):
    # This server gives whatever is there: what tells is size and checksum.
    longer, other, gone, same = (upload(name, b"one") for name in ("longer", "other", "gone", "same"))
    upload("longer", b"three")
    upload("other", b"two")
    gcs.client().bucket("photos").blob("gone").delete()
    changed = [(r.key, "ChangedSinceListed", True) for r in (longer, other, gone)]
    check([longer, other, gone, same], "images", {same.key: b"one"}, changed)
    with pytest.raises(ChangedSinceListed, match="gs://photos/other: expected crc32c [^ ]+== as listed, found [^ ]+=="):
        read_image.read(DEFAULT_STORAGE, other)
    with pytest.raises(ChangedSinceListed, match=f"gone: expected version {gone.version} as listed, found nothing"):
        read_image.read(DEFAULT_STORAGE, gone)


@pytest.mark.parametrize("write", [data.write_tar, data.write_tfrecords], ids=["tar", "tfrecord"])
def test_an_object_of_another_generation(paging, tmp_path, write):
    first = upload("a", b"one")
    second = upload("a", b"one")
    check([first, second], "images", {second.key: b"one"}, [(first.key, "ChangedSinceListed", True)])
    contents = {"1.jpg": b"one"} if write is data.write_tar else [example(image__encoded=b"one")]
    name = "1.jpg" if write is data.write_tar else "0"
    shard = write(tmp_path / "shard", contents).read_bytes()
    first, second = upload("shard", shard), upload("shard", shard)
    paging.requests.clear()
    with TestPipeline(runner=FnApiRunner()) as pipeline:
        shards = "tar" if write is data.write_tar else "tfrecord"
        outputs = pipeline | beam.Create([first, second]) | ReadImages(shards, storage=Storage("payer"))
        expected = EncodedImage(
            ImageRef(
                f"gs://photos/shard#{name}".encode(),
                second.version,
                3,
                versioned.crc32c(b"one"),
                in_shard=b"gs://photos/shard",
            ),
            b"one",
        )
        failed = outputs.failures | beam.Map(lambda failure: (failure.key, failure.error, failure.retryable))
        assert_that(outputs.main, equal_to([EncodedBlock((expected,))]), label="images")
        assert_that(failed, equal_to([(b"gs://photos/shard", "ChangedSinceListed", True)]), label="failures")
    assert {query["generation"][0] for query in paging.queries()} == {first.version, second.version}
    assert all(query["userProject"] == ["payer"] for query in paging.queries())


def test_an_object_that_was_packed_is_unpacked(server):
    ref = upload("a.jpg", gzip.compress(b"one"), content_encoding="gzip")
    check([ref], "images", {ref.key: b"one"})


def test_many_objects_survive_a_bad_day(server, monkeypatch):
    refs = [upload(f"{i}.jpg", b"%d" % i) for i in range(60)]
    monkeypatch.setattr(gcs, "RETRY", gcs.RETRY.with_delay(initial=0.01, maximum=0.05))
    chance = random.Random(7)
    server.answer = lambda url: chance.choice([503, 429, None, None])
    check(refs, "images", {r.key: b"%d" % i for i, r in enumerate(refs)})
