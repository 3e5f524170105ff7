"""transforms.decoders.task: which image is to blame for the end of a process."""

from transforms.decoders import dispatcher, task
from transforms.elements.records import EncodedImage, Failure, ImageRef


def test_an_image_is_to_blame_when_two_processes_have_died_over_it(tmp_path):
    refs = (ImageRef(b"/a.jpg"), EncodedImage(ImageRef(b"/b.jpg"), b""), ImageRef(b"/c.jpg"))
    blamed = task.Task(dispatcher.Tasks(), refs)
    blamed.blame(0, None)
    blamed.blame(1, None)
    assert blamed.failed == {}  # something else may have ended either
    blamed.blame(1, None)
    blamed.blame(2, task.TookTooLong("decoding took more than 60 s"))
    assert blamed.failed == {
        1: Failure(
            b"/b.jpg",
            "decode",
            "KilledTheProcess",
            "twice, when a decoder process died, it was decoding this image",
            retryable=False,
        ),
        2: Failure(b"/c.jpg", "decode", "TookTooLong", "decoding took more than 60 s", retryable=True),
    }


def test_an_image_that_has_killed_processes_of_a_run_says_how_many():
    assert task.quarantined(b"/a.jpg", 2).message.startswith("twice, when a process of this run died")
    assert task.quarantined(b"/a.jpg", 3).message.startswith("3 times, when a process of this run died")
    assert not task.quarantined(b"/a.jpg", 3).retryable
