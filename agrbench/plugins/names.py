"""Which names a plugin may have, and which plugin an unknown name may mean."""

from __future__ import annotations

import difflib
import keyword
import re
import unicodedata
from collections.abc import Iterable, Mapping

TWINS = {"stage": "defense", "defense": "stage"}
"""Kinds that share a spec, so that a name may belong to one of them only."""

SYNONYMS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "attack": {
        "adaptive": ("agr tailored", "tailored"),
        "badnets": ("backdoor", "trojan"),
        "dba": ("distributed backdoor",),
        "fang_krum": ("krum attack",),
        "fang_trimmed_mean": ("trim attack", "full trim", "fang trim", "fang trmean"),
        "gaussian": ("noise", "random", "random noise", "gauss"),
        "gradient_ascent": ("ascent", "asc", "g asc"),
        "ipm": ("foe", "fall of empires", "empire", "inner product", "inner product manipulation"),
        "label_flip": ("lf", "l flip", "label flipping"),
        "lie": ("alie", "little", "little is enough", "a little is enough"),
        "min_max": ("agr agnostic", "s&h"),
        "model_replacement": ("replacement", "constrain and scale"),
        "none": ("no attack", "benign", "honest", "clean"),
        "scaling": ("t scal", "scaling attack", "scale"),
        "sign_flip": ("bit flip", "bit flipping", "sf", "sign flipping", "reverse gradient", "reversed gradient"),
        "zero": ("zeros", "zero gradient"),
    },
    "defense": {
        "caf": ("covariance bound agnostic filter",),
        "centered_clipping": ("cclip", "cc", "centred clipping", "center clip"),
        "clip(radius=2.0)+fedavg": ("norm bounding", "norm bound", "norm thresholding"),
        "dnc": ("divide and conquer", "spectral"),
        "fang_err": ("err", "error rate rejection", "error rate based rejection"),
        "fang_lrr": ("lrr", "lfr", "loss rejection", "loss function based rejection"),
        "fedavg": ("mean", "average", "avg", "averaging", "no defense"),
        "fedavg(weighted=True)": ("weighted mean", "weighted average", "weighted fedavg"),
        "geometric_median": ("gm", "geomed", "geom median"),
        "geometric_median(steps=3)": ("rfa", "robust federated aggregation"),
        "mda": ("brute", "minimum diameter", "minimum diameter averaging", "minimal diameter averaging"),
        "meamed": ("mean around median", "mean of medians"),
        "median": (
            "cwmed", "comed", "cm", "med", "coord median", "coordinate median", "coordinate wise median", "cw median",
        ),
        "median(weighted=True)": ("weighted median",),
        "multi_krum": ("mkrum", "mk"),
        "rlr": ("robust learning rate",),
        "trimmed_mean": (
            "trmean", "trim mean", "tm", "cwtm", "trimmed", "coordinate trimmed mean", "coordinate wise trimmed mean",
        ),
    },
    "stage": {
        "amp": ("agr amplifier", "amplifier", "amplify", "pool", "pooling", "max pool", "max pooling"),
        "arc": ("adaptive clipping", "adaptive robust clipping"),
        "bucketing": ("buckets", "bucket", "resampling", "s resampling"),
        "clip": ("clipping", "static clipping", "norm clip"),
        "mean_pool": ("mean pooling", "average pool", "average pooling", "avg pool"),
        "nnm": ("mixing", "nearest neighbor mixing", "nearest neighbour mixing"),
    },
    "dataset": {
        "cifar10": ("cifar",),
        "digits": ("optdigits",),
        "emnist": ("extended mnist",),
        "fashion_mnist": ("fashion", "fmnist", "zalando"),
        "femnist": ("leaf",),
        "synthetic": ("toy", "blobs", "gaussians"),
        "table": ("csv", "parquet", "npz", "own", "custom"),
    },
}  # fmt: skip
"""For specs, in canonical form, what papers and libraries call the same; they appear in messages only."""


def near(kind: str, name: str, names: Iterable[str]) -> list[str]:
    """Return the specs that a name may mean: what it is called here, or else the names spelled most like it."""
    names, plain = list(names), _plain(name)
    meant = [spec for spec, others in SYNONYMS[kind].items() if plain in map(_plain, others)]
    alike = [other for other in names if _plain(other) == plain]
    if plain and (alike or meant):
        return alike or meant
    return difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)


def is_name(name: str) -> bool:
    """Return whether a spec can name a plugin so."""
    return name.isascii() and name.isidentifier() and not keyword.iskeyword(name)


def advised(name: str, kind: str = "rule") -> str:
    """Return a name much like one that no spec can write: `my_rule` for `my-rule`."""
    folded = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    new = re.sub(r"\W+", "_", folded).strip("_")
    if keyword.iskeyword(new) or new[:1].isdigit():
        new = f"my_{new}"
    return new if is_name(new) and not foreign(name) else f"my_{kind}"


def foreign(name: str) -> str:
    """Describe the first letter of a name that has no ASCII form, such as a Cyrillic one; empty if there is none."""
    for letter in unicodedata.normalize("NFKD", name):
        if not letter.isascii() and letter.isalnum():
            return f"{letter!r} ({unicodedata.name(letter, 'unnamed').capitalize()})"
    return ""


def unnameable(name: str, what: str, ending: str = "") -> str:
    """Say that no spec can write a name, and which name to give `what` instead."""
    why = f", for {letter} is not an ASCII letter" if (letter := foreign(name)) else ""
    return f"no spec can name {name!r}{why}; rename the {what} to {advised(name)}{ending}"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
