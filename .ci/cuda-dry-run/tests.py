#!/usr/bin/env python3
"""Tests of the stand-in and of what reads its trace: gcc and python3; ptxas where CUDA_PATH has it.

    .ci/cuda-dry-run/tests.py
"""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import table  # noqa: E402
from events import Trace  # noqa: E402

PTX = """
.version 8.0
.target sm_80
.address_size 64
.visible .entry doubled(.param .u64 .ptr .global .align 16 a, .param .align 8 .b8 info[16])
.reqntid 64, 1, 1
{ .reg .b64 %rd<3>; .reg .f32 %f<3>;
  ld.param.u64 %rd1, [a]; cvta.to.global.u64 %rd2, %rd1;
  ld.global.f32 %f1, [%rd2]; add.f32 %f2, %f1, %f1; st.global.f32 [%rd2], %f2; ret; }
"""
INVALID_VALUE, OUT_OF_MEMORY, INVALID_PTX, ILLEGAL_ADDRESS = 1, 2, 218, 700

# In a process of its own, as the driver reads its variables once.
SCRIPT = """
import ctypes, os, sys
driver = ctypes.CDLL(sys.argv[1])
U64, VOID = ctypes.c_uint64, ctypes.c_void_p
def memory(size):
    at = U64()
    return driver.cuMemAlloc_v2(ctypes.byref(at), ctypes.c_size_t(size)), at.value
def module(text):
    out = VOID()
    return driver.cuModuleLoadData(ctypes.byref(out), text.encode()), out
def launch(kernel, grid, block, pointer, shared=0):
    value, info = U64(pointer), ctypes.create_string_buffer(16)
    arguments = (VOID * 2)(ctypes.addressof(value), ctypes.addressof(info))
    return driver.cuLaunchKernel(kernel, *map(ctypes.c_uint, [*grid, *block, shared]), VOID(0), arguments, VOID(0))
"""


class Driver(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.library = Path(cls.folder.name) / "libcuda.so.1"
        subprocess.run(["gcc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", cls.library,
                        HERE / "driver.c", "-lpthread"], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def run_script(self, script, **variables):
        trace = Path(self.folder.name) / "trace"
        environment = os.environ | {"CUDA_DRY_RUN_TRACE": str(trace), "CUDA_DRY_RUN_CACHE": self.folder.name} | variables
        said = subprocess.run([sys.executable, "-c", SCRIPT + f"PTX = {PTX!r}\n" + script, self.library], env=environment,
                              capture_output=True, text=True, check=True).stdout
        return said.split(), Trace(trace)

    def test_memory_is_counted_and_ends(self):
        said, trace = self.run_script("""
a, at = memory(1 << 30); b, other = memory(60 << 30); c, _ = memory(30 << 30)
print(a, b, c, driver.cuMemFree_v2(U64(other)), driver.cuMemFree_v2(U64(other)), memory(30 << 30)[0])
""")
        self.assertEqual(list(map(int, said)), [0, 0, OUT_OF_MEMORY, 0, INVALID_VALUE, 0])
        self.assertEqual(trace.peak, 61 << 30)
        self.assertEqual(sum(trace.faults.values()), 2)

    def test_copies_stay_in_what_is_allocated(self):
        said, trace = self.run_script("""
_, at = memory(1024); host = ctypes.create_string_buffer(b"x" * 2048, 2048)
print(driver.cuMemcpyHtoDAsync_v2(U64(at), host, ctypes.c_size_t(1024), VOID(0)),
      driver.cuMemcpyHtoDAsync_v2(U64(at + 1), host, ctypes.c_size_t(1024), VOID(0)),
      driver.cuMemcpyDtoHAsync_v2(host, U64(at), ctypes.c_size_t(100), VOID(0)), host.raw[:101].count(0))
""")
        self.assertEqual(list(map(int, said)), [0, INVALID_VALUE, 0, 100])
        self.assertEqual((trace.counts()["uploads"], trace.counts()["downloads"]), (1, 1))

    def test_launches_are_checked(self):
        said, trace = self.run_script("""
_, at = memory(1024); status, kernel = module(PTX)
print(status, launch(kernel, (7, 1, 1), (64, 1, 1), at), launch(kernel, (7, 1, 1), (32, 1, 1), at),
      launch(kernel, (1, 70000, 1), (64, 1, 1), at), launch(kernel, (1, 1, 1), (64, 1, 1), at + 4096),
      launch(kernel, (1, 1, 1), (64, 1, 1), at, 60000), module("nothing")[0])
""")
        self.assertEqual(list(map(int, said)), [0, 0, INVALID_VALUE, INVALID_VALUE, ILLEGAL_ADDRESS, INVALID_VALUE, INVALID_PTX])
        self.assertEqual(trace.launched(), {"doubled": 1})

    @unittest.skipUnless((Path(os.environ.get("CUDA_PATH", "/none")) / "bin/ptxas").exists(), "no ptxas")
    def test_ptxas_decides(self):
        script = "print(module(PTX)[0], module(PTX.replace('add.f32', 'sub.f99'))[0], module(PTX.replace('80', '90', 2))[0])"
        ptxas = str(Path(os.environ["CUDA_PATH"]) / "bin/ptxas")
        said, trace = self.run_script(script, CUDA_DRY_RUN_PTXAS=ptxas, CUDA_DRY_RUN_GPU="a100")
        # The last is for a newer GPU than this one.
        self.assertEqual(said[:2], ["0", str(INVALID_PTX)])
        self.assertGreater(trace.kernels["doubled"]["registers"], 0)
        self.assertIn("doubled", trace.refused)


class Events(unittest.TestCase):
    def trace(self, *lines):
        with tempfile.NamedTemporaryFile("w", suffix=".trace") as file:
            file.write("\n".join(["M 0 64 k 32 0 0 0", *lines]) + "\n")
            file.flush()
            return Trace(file.name)

    def test_a_run_lies_between_two_pauses_and_is_repeated(self):
        launch, pause = "L 0 1 1 1 64 1 1 0", ["W event", "W event"]
        trace = self.trace("H 8", *pause, *[launch] * 9, *pause, launch, launch, "H 4", *pause, launch, launch, "H 4", *pause,
                           launch, *pause, launch, "D 4", "W event")
        counts = trace.counts(*trace.last_run())
        self.assertEqual((counts["launches"], counts["uploads"], counts["waits"]), (2, 1, 2))

    def test_images_end_at_their_bytes(self):
        trace = self.trace("D 4", "D 48", "L 0 1 1 1 64 1 1 0", "P down 12 4 16")
        self.assertEqual(trace.images(48), [2, 4])

    def test_numbers_before_and_after(self):
        self.assertEqual(table.cell({"a": 5}, {"a": "7"}, "a"), "7 → 5")
        self.assertEqual(table.cell({"a": 5}, {"a": "5"}, "a"), "5")
        self.assertEqual(table.cell({"a": None}, None, "a"), "")


if __name__ == "__main__":
    unittest.main()
