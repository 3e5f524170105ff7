"""The contenders for the network of the package as ONNX: this project, ONNX Runtime in a loop, and Beam's handler."""

from benchmarks.contenders import OURS, PEER, Contender
from transforms.concurrent.cores import usable_cores


def contenders() -> list[Contender]:
    """Returns the contenders; the first is the reference."""
    cores = str(usable_cores())
    return [
        Contender("ours", OURS, "run_pipeline.py --model m.onnx", "ours"),
        Contender(
            "onnxruntime",
            PEER,
            f"ONNX Runtime with its own threads, {cores} threads decode ahead",
            "onnx_runtime.py",
            ("--threads", cores),
        ),
        Contender("beam-onnx", PEER, "Beam, OnnxModelHandlerNumpy, 1 thread", "beam_onnx.py", ("--threads", "1")),
        Contender("beam-onnx-threads", PEER, f"the same, {cores} threads", "beam_onnx.py", ("--threads", cores)),
    ]
