import signal
import subprocess
import sys

import pytest

from segmentation.io.lock import StoreLockedError, store_lock

HOLD = (
    "import sys, time; from pathlib import Path; from segmentation.io.lock import store_lock\n"
    "with store_lock(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(600)\n"
)


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_run_is_told_who_holds_the_store(tmp_path, holder):
    with pytest.raises(StoreLockedError, match=rf"process {holder.pid} on "), store_lock(tmp_path):
        pass


def test_a_killed_holder_blocks_nobody(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with store_lock(tmp_path):
        pass


def test_the_lock_is_free_again_after_the_block(tmp_path):
    for _ in range(2):
        with store_lock(tmp_path):
            pass
