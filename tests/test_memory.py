"""Freed memory is kept for the next layer, and handed back on request; seen from a process of its own."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from chai_app.process import give_back_freed_memory, keep_freed_memory

def faults_of_ten_large_tensors():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(12_000_000).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident_mb():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6

plain = faults_of_ten_large_tensors()
is_kept = keep_freed_memory()
faults_of_ten_large_tensors()
kept, before = faults_of_ten_large_tensors(), resident_mb()
give_back_freed_memory()
print(is_kept, plain, kept, before - resident_mb())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only GNU's C library is told what to keep")
def test_large_tensors_find_the_memory_of_those_before_them_and_it_can_be_given_back():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    is_kept, plain, kept, given_back_mb = done.stdout.split()
    if is_kept == "False":
        pytest.skip("another C library")
    assert int(kept) < int(plain) / 10
    assert float(given_back_mb) > 40  # one tensor has 48 MB
