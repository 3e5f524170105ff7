"""Files that a listing leaves out by their names: hidden files, and other files beside the images. No Beam.

Only the names count, so a command can tell whether an image of some name would be listed.
"""

import re
from collections.abc import Callable

from transforms.storage import globs

# Why a file is left out. BESIDE: the pattern names an extension, and this file looks like an image of another one.
HIDDEN, OTHER, BESIDE = "hidden", "other", "beside"

# Names that systems put beside images, in lower case. Thumbnails would be embedded as images.
_SYSTEM = frozenset(
    {
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "system volume information"),
        *("@eadir", "@recycle", "@__thumb", "#recycle", "#snapshot", "__macosx", "icon\r"),
    }
)
_HIDDEN = re.compile(
    rf"(?:^|/)(?:\.(?!\.?(?:/|\Z))|(?:{'|'.join(re.escape(name) for name in sorted(_SYSTEM))})(?:/|\Z))", re.IGNORECASE
)

# Extensions of images, also of those that cannot be read here: they become failures, with the reason.
IMAGE_EXTENSIONS = frozenset(
    {
        *("jpg", "jpeg", "jpe", "jfif", "jfi", "jif", "pjpeg", "pjp", "mpo", "jps", "insp", "jp2", "j2k", "j2c", "jpc"),
        *("jpf", "jpx", "jpm", "jxl", "jxr", "hdp", "wdp", "png", "apng", "jng", "mng", "webp", "gif", "tif", "tiff"),
        *("bmp", "dib", "avif", "avifs", "heic", "heics", "heif", "heifs", "hif", "ico", "cur", "icns", "svg", "svgz"),
        *("psd", "psb", "xcf", "tga", "icb", "vda", "vst", "pcx", "ppm", "pgm", "pbm", "pnm", "pam", "pfm", "exr"),
        *("hdr", "dds", "qoi", "bpg", "flif", "sgi", "rgb", "rgba", "bw", "ras", "xbm", "xpm", "dcm", "dicom", "fits"),
        # Raw files of cameras.
        *("dng", "cr2", "cr3", "crw", "nef", "nrw", "arw", "sr2", "srf", "srw", "orf", "rw2", "rwl", "raf", "raw"),
        *("pef", "3fr", "iiq", "erf", "kdc", "dcr", "mrw", "x3f", "gpr", "mef", "mos", "fff"),
    }
)
# An extension is short and has a letter. The text after the dot in `IMG.20240101` or `portrait.original` is none.
_EXTENSION = re.compile(r"(?=[0-9]*[A-Za-z])[A-Za-z0-9]{1,5}")
_LONG_EXTENSIONS = frozenset(
    {"parquet", "tfrecord", "tfrecords", "geojson", "jsonlines", "sqlite", "properties", "markdown", "torrent"}
    | {"supplemental-metadata", "crdownload", "partial", "safetensors", "sqlite3", "pickle", "webloc", "unfinished"}
    | {"sha256", "sha512", "sha1sum", "sha256sum", "sha512sum", "md5sum"}
)

# Names without an extension of files that people and programs put beside images, in lower case.
_OTHER_NAMES = frozenset(
    {
        *("readme", "license", "licence", "copying", "copyright", "notice", "authors", "contributors", "credits"),
        *("citation", "attribution", "changelog", "changes", "history", "news", "todo", "install", "version"),
        *("manifest", "makefile", "dockerfile", "md5sums", "sha1sums", "sha256sums", "sha512sums", "checksums"),
        *("_success", "_metadata", "_common_metadata"),
    }
)

# Shards, as in `train-00001-of-01024` and `train.tfrecord-00001-of-01024`.
_SHARD_NAME = re.compile(r".*-[0-9]{4,}-of-[0-9]{4,}", re.DOTALL)

# Extensions that files have and directories do not.
_FILE_EXTENSIONS = IMAGE_EXTENSIONS | {
    *("txt", "json", "jsonl", "xml", "cls", "csv", "tsv", "yaml", "yml", "md", "html", "htm", "pdf", "ini", "log"),
    *("xmp", "aae", "mp4", "mov", "avi", "mkv", "webm", "m4v", "mp3", "wav", "zip", "tar", "tgz", "gz", "npy", "npz"),
    "py",
}

# Extensions of files beside shards, and beside lists.
_NO_SHARDS = (_FILE_EXTENSIONS - {"tar", "tgz", "gz"}) | {"parquet"}
_NO_LISTS = (_FILE_EXTENSIONS - {"txt", "csv", "tsv", "json", "jsonl", "log", "gz"}) | {"parquet", "tfrecord"}

Rule = Callable[[str], tuple[str, str] | None]


def rule(pattern: str, *, include_hidden: bool = False, input_format: str = "images") -> Rule:
    """Returns a function: path that the pattern matches → HIDDEN or OTHER, and the kind of name; None: it is listed.

    Files that a pattern names are listed: `photos/.cache/**`, `**/.thumbs/*.jpg`, `**.txt`, `**README`, and any file by
    its own name.

    Args:
      pattern: the glob. Names in its front without wildcards are never a reason.
      include_hidden: whether hidden files are listed like others.
      input_format: what a pattern without an extension means: images, lists or shards.
    """
    directories = globs.literal_directories(pattern)
    if globs.is_object_or_directory(pattern):
        directories = f"{pattern.rstrip('/')}/"
        pattern = f"{directories}**"
    names = pattern.removeprefix(directories).split("/")
    named = [_matcher(name) for name in names if _names_hidden(name)]
    depth = directories.count("/")
    keeps_others = names_extension(pattern)
    last = names[-1]
    taken_name = last.strip("*").lower()

    def why(path: str) -> tuple[str, str] | None:
        below = path.split("/", depth)[-1] if path.count("/") >= depth else ""
        if not include_hidden and _HIDDEN.search(below) and (name := _hidden(below, named)):
            return HIDDEN, name
        if keeps_others:
            return None
        if found := extension(below):
            return (OTHER, f".{found}") if _is_other(found, input_format) else None
        name = below.rpartition("/")[2]
        if input_format == "images" and "-of-" not in last and _SHARD_NAME.fullmatch(name):
            return OTHER, "-of-*"
        is_other = name.lower() in _OTHER_NAMES and name.lower() != taken_name
        return (OTHER, name) if is_other else None

    return why


def _is_other(suffix: str, input_format: str) -> bool:
    """Returns whether an extension is that of files beside images, lists or shards."""
    if input_format == "images":
        return not is_image_extension(suffix)
    return suffix.lower() in (_NO_LISTS if input_format == "list" else _NO_SHARDS)


def hidden_kind(path: str) -> str | None:
    """Returns the kind of the first name in a relative path that is that of a hidden or system file; None: it has none.

    >>> [hidden_kind(path) for path in ("a/._b.jpg", "@eaDir/b.jpg", "./a.jpg")]
    ['._*', '@eaDir/', None]
    """
    return _hidden(path, []) if _HIDDEN.search(path) else None


def extension(path: str) -> str | None:
    """Returns what comes after the last dot of a path's name if it is an extension, as spelled; else None.

    >>> [extension(name) for name in ("a/b.JPG", "a.jpg.json", "IMG.20240101", "README", ".jpg", "x.jpg_large")]
    ['JPG', 'json', None, None, None, None]
    """
    stem, _, end = path.rpartition("/")[2].rpartition(".")
    return end if stem and (_EXTENSION.fullmatch(end) or end.lower() in _LONG_EXTENSIONS) else None


def is_image_extension(name: str) -> bool:
    """Returns whether an extension is one of images, perhaps followed by a number, as in `photo.jpg2`."""
    return name.lower() in IMAGE_EXTENSIONS or name.lower().rstrip("0123456789") in IMAGE_EXTENSIONS


def is_file_name(path: str) -> bool:
    """Returns whether a path has an extension that directories do not have."""
    return (extension(path) or "").lower() in _FILE_EXTENSIONS


def beside(pattern: str) -> str | None:
    """Returns the glob that matches files of any extension where one that names an extension does; None for others.

    >>> [beside(pattern) for pattern in ("photos/**.jpg", "photos/*/a*.png", "photos/a?.png", "photos/*")]
    ['photos/**', 'photos/*/a*', 'photos/a?.*', None]
    """
    if not names_extension(pattern) or not globs.has_wildcards(pattern):
        return None
    stem = pattern.rpartition(".")[0]
    return stem if stem.endswith("*") else f"{stem}.*"


def names_extension(pattern: str) -> bool:
    """Returns whether the last name of a glob has an extension, so that it says which kind of files it means."""
    dot, end = pattern.rpartition("/")[2].rpartition(".")[1:]
    return bool(dot and end.strip("*"))


def _names_hidden(name: str) -> bool:
    """Returns whether a name in a pattern means hidden files: as in a shell, a `*` alone does not."""
    return name.startswith(".") or name.lower() in _SYSTEM or name.lstrip("*").lower() in {*_SYSTEM, ".ds_store"}


def _matcher(name: str) -> Callable[[str], bool]:
    return globs.matcher(re.sub(r"\*+", "*", name))


def _hidden(path: str, named: list[Callable[[str], bool]]) -> str | None:
    """Returns the kind of the first hidden name in a path that no name of the pattern matches; None: there is none."""
    names = path.split("/")
    for number, name in enumerate(names):
        if _HIDDEN.search(name) and not any(matches(name) for matches in named):
            return _kind(name) + ("/" if number < len(names) - 1 else "")
    return None


def _kind(name: str) -> str:
    if name.lower() in _SYSTEM or name == ".DS_Store":
        return name.strip()
    return next((f"{front}*" for front in ("._", ".trashed-") if name.startswith(front)), ".*")
