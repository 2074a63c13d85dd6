import subprocess
import sys

import numpy as np

from segmentation.kernels import are_compiled
from segmentation.kernels.compiled import compiled

#: Runs every method on pictures of all usual kinds, and prints what was compiled and what was loaded.
PROGRAM = """
import importlib, pkgutil
from segmentation import kernels
from segmentation.kernels.__main__ import main

main()
modules = [importlib.import_module(f"segmentation.kernels.{m.name}") for m in pkgutil.iter_modules(kernels.__path__)]
loops = {id(loop): loop for module in modules for loop in vars(module).values() if hasattr(loop, "stats")}.values()
compiled = sorted(loop.__name__ for loop in loops if loop.stats.cache_misses)
print(compiled, sum(len(loop.stats.cache_hits) for loop in loops))
"""


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


def test_a_later_process_compiles_nothing():
    command = [sys.executable, "-c", PROGRAM]
    subprocess.run(command, check=True, capture_output=True)  # compiles, should nobody have done so before
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    missed, loaded = again.stdout.splitlines()[-1].rsplit(" ", 1)
    assert missed == "[]"
    assert int(loaded) >= 30
    assert are_compiled()
