"""Fetching the four MNIST files from public mirrors, with checksums.

pooch writes to a temporary file in the target folder, compares the SHA-256 and only then renames it, so that a file
that is there is whole, even when several ranks fetch it at once.
"""

from __future__ import annotations

from pathlib import Path

from fedmpi.local.jit.cache_folder import folder as folder_of_code

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

# Of the original files as Y. LeCun published them; both mirrors serve those.
SHA256 = {
    "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


def cache_folder() -> Path:
    """The per-user folder for downloads; needs the extra ``data``.

    Raises FileNotFoundError for a user who has no home, nor a folder for compiled code.
    """
    _need_pooch()
    import pooch

    found = Path(pooch.os_cache("fedmpi"))
    place = found if found.is_absolute() else folder_of_code()  # "~/…" where no home is known
    if place is None:
        raise FileNotFoundError("mnist(download=True) knows no home to download into: name a folder")
    return place / "mnist"


def fetch(name: str, folder: Path) -> Path:
    """Download the MNIST file `name` (a key of `SHA256`) into `folder` and return its path.

    The mirrors are tried in order.  Raises ConnectionError naming every mirror and its failure, a wrong checksum for
    one, and ModuleNotFoundError when pooch is missing.
    """
    _need_pooch()
    import pooch

    failures = []
    for mirror in MIRRORS:
        try:
            return Path(pooch.retrieve(mirror + name, known_hash=f"sha256:{SHA256[name]}", fname=name, path=folder))
        except (OSError, ValueError) as error:  # requests' errors are OSError; a wrong checksum is ValueError
            failures.append(f"  {mirror}{name}: {error}")
    raise ConnectionError(f"cannot download {name} into {folder}:\n" + "\n".join(failures))


def _need_pooch() -> None:
    try:
        import pooch  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'mnist(download=True) needs pooch, which is not installed: pip install "fedmpi[data]"', name="pooch"
        ) from error
