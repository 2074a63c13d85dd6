"""A heap of merges: three arrays hold their cost and the newer and the older of the two clusters.

Entries are compared in that order, smallest first, and every entry has four children.
"""

from segmentation.arrays import Floats, Integers
from segmentation.kernels.compiled import compiled

Heap = tuple[Floats, Integers, Integers]


@compiled
def heapify(heap: Heap, count: int) -> None:
    """Order the first `count` entries of a heap."""
    for place in range((count - 2) // 4, -1, -1):
        _sink(heap, count, place, heap[0][place], heap[1][place], heap[2][place])


@compiled
def replace_first(heap: Heap, count: int, cost: float, newer: int, older: int) -> int:
    """Put an entry in the place of the first; without one (`older` < 0) close the gap. Return the heap's length."""
    if older >= 0:
        _sink(heap, count, 0, cost, newer, older)
        return count
    count -= 1
    if count > 0:
        _sink(heap, count, 0, heap[0][count], heap[1][count], heap[2][count])
    return count


@compiled
def _sink(heap: Heap, count: int, place: int, cost: float, newer: int, older: int) -> None:
    """Put an entry at a place of the heap, or as far below as it belongs."""
    costs, newers, olders = heap
    while True:
        child = 4 * place + 1
        if child >= count:
            break
        least = child
        for other in range(child + 1, min(child + 4, count)):
            if _before(costs[other], newers[other], olders[other], costs[least], newers[least], olders[least]):
                least = other
        if not _before(costs[least], newers[least], olders[least], cost, newer, older):
            break
        costs[place], newers[place], olders[place] = costs[least], newers[least], olders[least]
        place = least
    costs[place], newers[place], olders[place] = cost, newer, older


@compiled
def _before(cost: float, newer: int, older: int, other_cost: float, other_newer: int, other_older: int) -> bool:
    if cost != other_cost:
        return cost < other_cost
    if newer != other_newer:
        return newer < other_newer
    return older < other_older
