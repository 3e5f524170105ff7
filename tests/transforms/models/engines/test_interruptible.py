"""transforms.models.engines.interruptible: a signal ends the wait for a model that computes for ever."""

import contextlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.helpers.running import ROOT
from transforms.models import checked_copy
from transforms.models.engines import interruptible


def test_the_result_and_the_error_are_those_of_the_work():
    assert interruptible.call(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        interruptible.call(lambda: 1 // 0)
    with pytest.raises(SystemExit):
        interruptible.call(sys.exit)
    assert not interruptible.is_running()


def test_the_thread_has_ended_when_the_result_is_there(monkeypatch):
    """Python aborts a process that ends while a thread comes back from C++."""

    class Late(threading.Thread):
        def run(self):
            super().run()
            time.sleep(0.2)

    monkeypatch.setattr(threading, "Thread", Late)
    assert not interruptible.call(threading.current_thread).is_alive()


def test_only_the_main_thread_waits_for_another():
    assert interruptible.call(threading.current_thread) is not threading.main_thread()
    callers = []

    def call():
        callers.append((interruptible.call(threading.current_thread), threading.current_thread()))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert len({*callers[0]}) == 1


def test_work_that_was_interrupted_goes_on_until_it_ends(monkeypatch):
    """Copies of its model go at once, and the end of the process does not wait for it."""
    may_end, removed = threading.Event(), []
    monkeypatch.setattr(checked_copy, "remove_all", lambda: removed.append(1))

    def work():
        with contextlib.suppress(KeyboardInterrupt):  # which comes at once, if the thread is not yet waiting
            signal.raise_signal(signal.SIGINT)
            may_end.wait()
        may_end.wait()

    with pytest.raises(KeyboardInterrupt):
        interruptible.call(work)
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "model"]
    assert interruptible.is_running() and thread.daemon and removed == [1]
    may_end.set()
    thread.join()
    assert not interruptible.is_running()


def test_work_in_python_ends_too():
    ended = []

    def work():
        try:
            signal.raise_signal(signal.SIGINT)
            while True:
                pass
        finally:
            ended.append(threading.current_thread())

    with pytest.raises(KeyboardInterrupt):
        interruptible.call(work)
    (thread,) = ended
    thread.join()
    assert not interruptible.is_running()


def endless(file):
    """Writes an ONNX model whose loop takes longer than anybody lives."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])
    vectors = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", 3])
    values = [
        helper.make_tensor_value_info("number", TensorProto.INT64, []),
        helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["n", 3]),
    ]
    results = [
        helper.make_tensor_value_info("still_goes_on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("next_sum", TensorProto.FLOAT, ["n", 3]),
    ]
    nodes = [
        helper.make_node("Add", ["sum", "little"], ["next_sum"]),
        helper.make_node("Identity", ["goes_on"], ["still_goes_on"]),
    ]
    body = helper.make_graph(nodes, "body", values, results, [numpy_helper.from_array(np.float32(1e-30), "little")])
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["flat"]),
            helper.make_node("Loop", ["times", "yes", "flat"], ["vectors"], body=body),
        ],
        "endless",
        [images],
        [vectors],
        [numpy_helper.from_array(np.int64(2**62), "times"), numpy_helper.from_array(np.array(True), "yes")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


_COMMAND = """
import os, signal, sys
from transforms.models.engines import onnx_runtime
from {module} import main
compiled = onnx_runtime.compiled
def interrupting(*args):
    run = compiled(*args)
    def interrupted(pixels):
        os.kill(os.getpid(), signal.{number})
        return run(pixels)
    return interrupted
onnx_runtime.compiled = interrupting
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "number", "code"),
    [("pipeline.launch", "SIGTERM", 143), ("pipeline.commands.inspect_model", "SIGINT", 130)],
)
def test_a_command_that_tries_a_model_for_ever_is_interrupted(tmp_path, monkeypatch, module, number, code):
    pytest.importorskip("onnxruntime")  # it is called first, to compare with
    monkeypatch.setenv("BEAM_IMAGE_EMBEDDINGS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    model = str(endless(tmp_path / "m.onnx"))
    flags = ["--model", model, "--output", str(tmp_path / "out")] if module == "pipeline.launch" else [model]
    script = _COMMAND.format(module=module, number=number)
    command = [sys.executable, "-c", script, *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code and "interrupted" in done.stderr and done.stderr.strip().count("\n") == 0
    assert not list(tmp_path.glob("embed-images-model-*"))
