"""Values that the image processors of transformers compute, for tests of the same preprocessing.

    pip install 'transformers<5' 'pillow>=12,<13'
    python tests/helpers/transformers_values.py > tests/helpers/transformers_values.json

These processors use Pillow and numpy alone. The image is square: where the centre lies between two pixels, they take
the one before it, and torchvision, which the processors of transformers 5 use, the one after.
"""

import json
import sys
from pathlib import Path

IMAGE = Path(__file__).parents[2] / "pipeline" / "samples" / "images" / "astronaut.jpg"
# Every so many rows and columns of the values.
STEP = 28


def main() -> None:
    import numpy as np
    import transformers
    from PIL import Image

    imagenet = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    processors = {
        "clip": transformers.CLIPImageProcessor(),
        "siglip": transformers.SiglipImageProcessor(),
        "dinov2": transformers.BitImageProcessor(size={"shortest_edge": 256}, **imagenet),
        "deit": transformers.DeiTImageProcessor(),
        "vit": transformers.ViTImageProcessor(),
        "convnext": transformers.ConvNextImageProcessor(),
    }
    image = Image.open(IMAGE).convert("RGB")
    cases = {}
    for name, processor in processors.items():
        values = processor(image, return_tensors="np")["pixel_values"][0, :, ::STEP, ::STEP]
        cases[name] = {"config": json.loads(processor.to_json_string()), "values": np.round(values, 5).tolist()}
    json.dump({"version": transformers.__version__, "cases": cases}, sys.stdout)


if __name__ == "__main__":
    main()
