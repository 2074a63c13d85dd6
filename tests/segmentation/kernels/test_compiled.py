import numpy as np

from segmentation.kernels.compiled import compiled


def test_a_function_without_a_place_for_its_machine_code_is_compiled_all_the_same():
    namespace = {}
    exec("def double(x): return 2 * x", namespace)  # no file, so no folder beside it
    assert compiled(namespace["double"])(21) == 42


def test_sums_are_done_as_written():
    @compiled
    def total(values):
        result = 0.0
        for value in values:
            result += value
        return result

    assert total(np.array([1e16, *[1.0] * 1000, -1e16])) == 0.0
