"""Fashion-MNIST: 70,000 images of clothes in 10 classes, 28x28, in MNIST's form (Xiao, Rasul and Vollgraf, 2017)."""

from agrbench.data.examples import Examples
from agrbench.data.idx import halves
from agrbench.plugins import Dataset, File, Source

SUMS = {
    "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}
FILES = tuple(
    File(f"fashion_mnist/{name}", f"https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/{name}", s)
    for name, s in SUMS.items()
)


def load() -> tuple[Examples, Examples]:
    """Return the 60,000 training and 10,000 test images `(rows, 1, 28, 28)` as published, from 0 (ground) to 1."""
    return halves(FILES)


dataset = Dataset(
    load,
    model="mlp(512)",
    rate=0.1,
    root_size=2000,
    source=Source("MIT", FILES),
)
