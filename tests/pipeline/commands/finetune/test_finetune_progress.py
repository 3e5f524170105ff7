"""pipeline.commands.finetune.progress: the lines of a training, on a terminal and elsewhere."""

import io

from pipeline.commands.finetune.progress import TrainingProgress

MEASURED = {"loss": 0.5, "accuracy": 0.75}
VALIDATED = MEASURED | {"val_loss": 0.25, "val_accuracy": 1.0}


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def train(screen):
    clock = Clock()
    progress = TrainingProgress(screen, epochs=2, batches=4, clock=clock)
    for batch in (1, 2, 3):
        clock.now += 10 if batch == 1 else 0.15
        progress.batch(1, batch, MEASURED)
    progress.epoch(1, VALIDATED)
    clock.now += 5
    progress.epoch(2, MEASURED)


def test_elsewhere_it_is_a_line_an_epoch():
    screen = io.StringIO()
    train(screen)
    assert screen.getvalue().splitlines() == [
        "epoch 1 of 2: loss 0.500, accuracy 0.750; validation loss 0.250, accuracy 1.000; 10.3 s",
        "epoch 2 of 2: loss 0.500, accuracy 0.750; 5.0 s",
    ]


def test_on_a_terminal_it_is_a_bar_too():
    screen = Terminal()
    train(screen)
    drawn = screen.getvalue().split("\r\x1b[K")
    assert drawn[1] == "epoch 1: starting"
    assert drawn[2] == "epoch 1 of 2 [######..................] loss 0.500, accuracy 0.750, 30 s left"
    # The second batch came too soon after it.
    assert drawn[3] == "epoch 1 of 2 [##################......] loss 0.500, accuracy 0.750, 3 s left"
    assert drawn[4].startswith("epoch 1 of 2: loss 0.500") and drawn[4].endswith("\n")
