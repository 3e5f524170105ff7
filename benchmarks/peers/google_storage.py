"""A plain script: google-cloud-storage and Pillow in 16 threads get the next batch, while the SavedModel is called.

https://cloud.google.com/python/docs/reference/storage/latest, with the connections of one client for all threads.
"""

import io
from concurrent.futures import ThreadPoolExecutor

import contract
import numpy as np
import requests
import tensorflow as tf
from google.cloud import storage
from PIL import Image

_THREADS = 16

args = contract.arguments()
height, width = args.image_size
client = storage.Client()
# By default it keeps 10 connections, and the others are made anew for each object.
for scheme in ("http://", "https://"):
    client._http.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=_THREADS))
bucket, _, prefix = args.photographs.removeprefix("gs://").partition("/")


def load(blob: storage.Blob) -> np.ndarray:
    with Image.open(io.BytesIO(blob.download_as_bytes())) as image:
        return np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))


infer = tf.saved_model.load(args.model).signatures["serving_default"]
blobs = list(client.list_blobs(bucket, prefix=prefix))
batches = [blobs[i : i + args.batch_size] for i in range(0, len(blobs), args.batch_size)]
vectors = []
with ThreadPoolExecutor(_THREADS) as pool:
    following = pool.map(load, batches[0])
    for ahead in [*batches[1:], []]:
        images, following = following, pool.map(load, ahead)
        pixels = np.stack(list(images)).astype(np.float32) / 255
        with contract.batch(args.output, len(pixels)):
            vectors.append(infer(tf.constant(pixels))["default"].numpy())
contract.save(args.output, [blob.name for blob in blobs], vectors)
