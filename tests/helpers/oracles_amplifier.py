"""The amplifier and its controls as nested loops over lists, from the definition (AgrAmplifier, 2022, Algorithm 1).

Nothing here imports the package under test, torch or numpy. A row is one client's update, a list of floats; a layout is
the list of its layers' shapes; a coordinate is a place in the row; a patch lists its coordinates row by row.
"""

import math
from collections.abc import Callable, Sequence

Row = Sequence[float]
Shape = Sequence[int]
Matrix = list[list[int]]
Patches = list[list[int]]
Choose = Callable[[Sequence[float]], int]


def size(shape: Shape) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def is_bias(shapes: Sequence[Shape], place: int) -> bool:
    """Say whether a 1-D shape is the bias of the weights just before it: as long as their `d_out`."""
    if place == 0 or len(shapes[place]) != 1 or len(shapes[place - 1]) == 1:
        return False
    weights = shapes[place - 1]
    outputs = weights[1] if len(weights) == 2 else weights[0]
    return shapes[place][0] == outputs


def folded(shapes: Sequence[Shape]) -> list[Matrix]:
    """Lay out each layer as `(d_in, d_out)`, its bias as one more row; the entries are coordinates."""
    layers: list[Matrix] = []
    start = 0
    for place, shape in enumerate(shapes):
        if is_bias(shapes, place):
            layers[-1].append([start + output for output in range(shape[0])])
        elif len(shape) == 1:
            layers.append([[start + entry for entry in range(shape[0])]])
        elif len(shape) == 2:
            inputs, outputs = shape
            layers.append([[start + i * outputs + o for o in range(outputs)] for i in range(inputs)])
        else:
            outputs, inputs, height, width = shape
            matrix = []
            for i in range(inputs):
                for y in range(height):
                    for x in range(width):
                        matrix.append(
                            [start + ((o * inputs + i) * height + y) * width + x for o in range(outputs)],
                        )
            layers.append(matrix)
        start += size(shape)
    return layers


def cut(matrix: Matrix, kernel: int) -> Patches:
    """Cut a matrix into `kernel` x `kernel` patches, smaller ones at its lower and right edge."""
    patches = []
    for top in range(0, len(matrix), kernel):
        for left in range(0, len(matrix[0]), kernel):
            patch = []
            for row in matrix[top : top + kernel]:
                patch.extend(row[left : left + kernel])
            patches.append(patch)
    return patches


def patches_by_layer(shapes: Sequence[Shape], kernel: int) -> list[Patches]:
    return [cut(matrix, kernel) for matrix in folded(shapes)]


def patches(shapes: Sequence[Shape], kernel: int) -> Patches:
    """List the patches of all layers, layer after layer."""
    return [patch for layer in patches_by_layer(shapes, kernel) for patch in layer]


def in_torch_order(shapes: Sequence[Shape]) -> list[int]:
    """List the coordinates as torch stores the layers: linear weights output by output, all else as given."""
    order = []
    start = 0
    for shape in shapes:
        if len(shape) == 2:
            inputs, outputs = shape
            for o in range(outputs):
                for i in range(inputs):
                    order.append(start + i * outputs + o)
        else:
            order.extend(range(start, start + size(shape)))
        start += size(shape)
    return order


def before_the_output_bias(shapes: Sequence[Shape]) -> list[int]:
    """List the coordinates as torch stores them, without the bias of the last layer."""
    order = in_torch_order(shapes)
    return order[: len(order) - size(shapes[-1])] if is_bias(shapes, len(shapes) - 1) else order


def released_patches(shapes: Sequence[Shape], kernel: int) -> Patches:
    """Fold the stored vector, without the output bias, at the first layer's width; list the whole patches alone."""
    order = before_the_output_bias(shapes)
    width = len(folded(shapes)[0][0])
    matrix = [order[start : start + width] for start in range(0, len(order) - width + 1, width)]
    full = []
    for top in range(0, len(matrix) - kernel + 1, kernel):
        for left in range(0, width - kernel + 1, kernel):
            patch = []
            for down in range(kernel):
                for across in range(kernel):
                    patch.append(matrix[top + down][left + across])
            full.append(patch)
    return full


def largest(values: Sequence[float]) -> int:
    """Find the largest value, the first of several."""
    best = 0
    for place in range(1, len(values)):
        if values[place] > values[best]:
            best = place
    return best


def strongest(values: Sequence[float]) -> int:
    """Find the value of largest absolute value, the first of several."""
    best = 0
    for place in range(1, len(values)):
        if abs(values[place]) > abs(values[best]):
            best = place
    return best


def pooled(rows: Sequence[Row], patches: Patches, choose: Choose = largest) -> list[list[float]]:
    """Give each patch's chosen value."""
    view = []
    for row in rows:
        seen = []
        for patch in patches:
            values = [row[coordinate] for coordinate in patch]
            seen.append(values[choose(values)])
        view.append(seen)
    return view


def restored(rows: Sequence[Row], patches: Patches, choose: Choose = largest) -> list[list[float]]:
    """Keep each patch's chosen value in place and write 0 elsewhere; what is in no patch stays as it is."""
    view = []
    for row in rows:
        kept = list(row)
        for patch in patches:
            best = choose([row[coordinate] for coordinate in patch])
            for place, coordinate in enumerate(patch):
                if place != best:
                    kept[coordinate] = 0.0
        view.append(kept)
    return view


def released_restored(
    rows: Sequence[Row], shapes: Sequence[Shape], kernel: int, choose: Choose = largest
) -> list[list[float]]:
    """Keep each whole patch's chosen value and the output bias in place, and write 0 everywhere else."""
    patches = released_patches(shapes, kernel)
    whole = {coordinate for patch in patches for coordinate in patch}
    edge = [coordinate for coordinate in before_the_output_bias(shapes) if coordinate not in whole]
    view = restored(rows, patches, choose)
    for kept in view:
        for coordinate in edge:
            kept[coordinate] = 0.0
    return view


def averaged(rows: Sequence[Row], patches: Patches) -> list[list[float]]:
    """Give each patch's mean."""
    return [[math.fsum(row[c] for c in patch) / len(patch) for patch in patches] for row in rows]


def feature_of(patches: Patches, parameters: int) -> list[int]:
    """Map each coordinate to its patch, -1 where it is in none."""
    features = [-1] * parameters
    for feature, patch in enumerate(patches):
        for coordinate in patch:
            features[coordinate] = feature
    return features
