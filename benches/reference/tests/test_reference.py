"""Tests of the scripts next to this folder, without PyTorch: python3 -m unittest discover -s THIS_FOLDER"""

import contextlib
import csv
import importlib.machinery
import importlib.util
import io
import json
import os
import stat
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.dirname(HERE)


def load(file):
    name = f"reference_{file.removesuffix('.py')}"
    path = os.path.join(FOLDER, file)
    loader = importlib.machinery.SourceFileLoader(name, path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    sys.modules[name] = module  # where dataclasses look for it
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


compare, profile, torch_bench = load("compare"), load("profile_shares.py"), load("torch_bench.py")
kernels = load("kernels_table.py")
sys.modules["torch_bench"] = torch_bench  # as a script it imports it
peers = load("peer_bench.py")


def record(component, seconds, **more):
    keys = dict(component=component, seconds=seconds, width=512, height=512, rows=2, tokens=256, gflop=100.0,
                gbyte=None, parameters=7, threads=2, finite=True, peak_memory_bytes=2_000_000_000,
                device_memory_bytes=None, version="1", device_name="a CPU", cpu="a CPU")
    return dict(keys, **more)


def fails(function, *arguments):
    """What a command says that refuses its options."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            function(*arguments)
        except SystemExit as stop:
            assert stop.code == 2, stop.code
            return said.getvalue()
    raise AssertionError("no refusal")


class Plans(unittest.TestCase):
    def test_cpu(self):
        options = compare.parse(["--dtype", "f32,bf16"])
        self.assertEqual((options.repeat, options.warmup), (3, 1))
        targets = {str(case): str(case.target) for case in options.cases if case.target}
        self.assertEqual(targets["dit sana-600m-512px f32 512 px"], "<= 0.85")
        self.assertEqual(targets["encode sana-600m-512px f32 512 px"], "<= 0.6")
        self.assertEqual(targets["dit sana-600m-1024px bf16 1024 px"], "<= 1")
        self.assertEqual(targets["decode sana-600m-512px bf16 512 px"], "<= 1.2")
        self.assertNotIn("encode sana-600m-512px bf16 512 px", targets)
        self.assertIn("/cpu-", options.out)

    def test_other_engines(self):
        options = compare.parse(["--only", "dit,text,attention", "--quantize", "int8", "--peer", "openvino,torchao"])
        sides = {str(case): compare.commands(options, ["sana"], case) for case in options.cases}
        dense, int8 = "dit sana-600m-1024px f32 1024 px", "dit sana-600m-1024px f32 int8 1024 px"
        self.assertEqual(list(sides[dense]), ["sana", "PyTorch", "OpenVINO"])
        self.assertEqual(list(sides[int8]), ["sana", "OpenVINO", "torchao"])
        self.assertEqual(list(sides["text sana-600m-512px f32 int8 300 tokens"]), ["sana", "OpenVINO", "torchao"])
        self.assertEqual(list(sides["attention sana-1600m-1024px f32 4096 tokens"]), ["sana", "PyTorch"])
        self.assertNotIn("attention sana-1600m-1024px f32 int8 4096 tokens", sides)
        for side in ["sana", "OpenVINO", "torchao"]:
            self.assertEqual(sides[int8][side][sides[int8][side].index("--quantize") + 1], "int8")
        self.assertNotIn("--quantize", sides[dense]["sana"])
        self.assertIn("for the CPU", fails(compare.parse, ["--device", "cuda", "--peer", "openvino"]))
        self.assertIn("choose from openvino, torchao", fails(compare.parse, ["--peer", "onnx"]))
        self.assertIn("choose from dit, decode, text",
                      fails(peers.parse, ["--peer", "openvino", "--component", "encode"]))

    def test_a_quantized_row(self):
        cases = [compare.Case("dit", "sana-600m-512px", "f32", 512, quantize=form) for form in [None, "int8"]]
        times = {None: {"sana": 4.0, "OpenVINO": 5.0}, "int8": {"sana": 2.0, "OpenVINO": 1.6, "torchao": 8.0}}
        rows = []
        for case in cases:
            results = {side: {"dit": compare.Results(record("dit", []), [value])}
                       for side, value in times[case.quantize].items()}
            rows += compare.rows_of(compare.replace(case, target=compare.Target(0.9, "best")), results, {})
        self.assertEqual([row.of_dense(rows) for row in rows], [None, 0.5])
        self.assertEqual([row.met() for row in rows], [True, False])
        text = compare.markdown(dict(title="t", facts={}), rows, [], ["sana", "OpenVINO", "torchao"])
        self.assertIn("| f32, int8 |", text)
        self.assertIn("| 0.50 |", text)

    def test_gpu(self):
        options = compare.parse(["--device", "cuda:1", "--compile"])
        cases = [str(case) for case in options.cases]
        self.assertEqual(len(cases), len(set(cases)))
        for case in ["dit sana-1.5-4.8b bf16 4096 px", "dit sana-1600m-4kpx bf16 4096 px",
                     "dit sana-1600m-1024px bf16 1024 px batch 16",
                     "decode sana-1600m-1024px bf16 4096 px",
                     "text sana-1600m-1024px bf16 600 tokens",
                     "image sana-1600m-1024px bf16 1024 px 20 steps",
                     "image sana-sprint-1.6b bf16 1024 px 4 steps"]:
            self.assertIn(case, cases)
        # The ceilings come first, so that a run that is cut off has them.
        self.assertEqual([case.component for case in options.cases[:2]], ["matmul", "stream"])
        sides = compare.commands(options, ["sana"], options.cases[0])
        self.assertEqual(list(sides), ["sana", "PyTorch", "compiled"])
        self.assertEqual(sides["sana"][-2:], ["--device", "cuda:1"])
        self.assertEqual(sides["PyTorch"][-2:], ["--device", "cuda:1"])
        self.assertEqual(sides["compiled"][-1], "--compile")
        self.assertIn("/gpu-", options.out)
        single = compare.parse(["--device", "cuda", "--dtype", "f32"])
        self.assertIn("--tf32", compare.commands(single, ["sana"], single.cases[0])["PyTorch"])

    def test_what_comes_first_on_a_gpu(self):
        """A run that is cut off has what matters."""
        options = compare.parse(["--device", "cuda"])
        ranks = [compare.rank(case) for case in options.cases]
        self.assertEqual(ranks, sorted(ranks))
        main = [str(case) for case in options.cases if compare.rank(case) < 3]
        self.assertEqual(main, [
            "matmul sana-1600m-1024px bf16",
            "stream sana-1600m-1024px bf16",
            "dit sana-1600m-1024px bf16 1024 px",
            "decode sana-1600m-1024px bf16 1024 px",
            "image sana-1600m-1024px bf16 1024 px 20 steps",
            "image sana-sprint-1.6b bf16 1024 px 1 steps",
            "encode sana-1600m-1024px bf16 1024 px",
            "text sana-1600m-1024px bf16 300 tokens",
            "attention sana-1600m-1024px bf16 4096 tokens",
        ])
        short = compare.parse(["--device", "cuda", "--short"])
        self.assertEqual([str(case) for case in short.cases], main)
        self.assertIn("for a GPU", fails(compare.parse, ["--short"]))

    def test_a_second_line(self):
        options = compare.parse(["--device", "cuda:1,vulkan", "--short", "--compile", "max-autotune",
                                 "--sana", "sana"])
        first = [case for case in options.cases if not case.device]
        second = [case for case in options.cases if case.device]
        self.assertEqual({case.dtype for case in first}, {"bf16"})
        self.assertEqual([case.dtype for case in second], len(first) * ["f32"] + len(first) * ["f16"])
        self.assertEqual({case.device for case in second}, {"vulkan"})
        self.assertFalse(any(case.target for case in second))
        self.assertTrue(str(second[0]).endswith("on vulkan"))
        sides = compare.commands(options, ["sana"], second[0])
        self.assertEqual(sides["sana"][-2:], ["--device", "vulkan"])
        # The same GPU for both, in full f32 as Vulkan computes it.
        self.assertEqual(sides["PyTorch"][-2:], ["--device", "cuda:1"])
        self.assertNotIn("--tf32", sides["PyTorch"])
        self.assertEqual(sides["compiled"][-2:], ["--compile", "max-autotune"])
        # In the whole table it is before what takes long, as time may end.
        whole = compare.parse(["--device", "cuda,vulkan"]).cases
        ranks = [3 if not case.device and compare.rank(case) == 3 else 0 for case in whole]
        self.assertEqual(ranks, sorted(ranks))
        tried = compare.parse(["--device", "cuda,vulkan", "--variant", "scenes"]).cases
        self.assertEqual({(case.device, case.dtype) for case in tried},
                         {(None, "bf16"), ("vulkan", "f32"), ("vulkan", "f16")})
        alone = compare.parse(["--device", "vulkan"])
        self.assertEqual(alone.dtype, ["f32", "f16"])
        torch = compare.commands(alone, ["sana"], alone.cases[0])["PyTorch"]
        self.assertEqual(torch[-2:], ["--device", "cuda"])
        self.assertIn("measured alone", fails(compare.parse, ["--device", "cuda,flex"]))
        self.assertIn("twice", fails(compare.parse, ["--device", "cuda:0,cuda:1"]))

    def test_the_build_has_all_backends(self):
        options = compare.parse(["--device", "cuda:1,vulkan", "--features", "cuda-nvrtc",
                                 "--dry-run"])
        said = []
        real = compare.subprocess.run
        compare.subprocess.run = lambda command, **_: said.append(command)
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                options.dry_run = False
                compare.build(options)
        finally:
            compare.subprocess.run = real
        self.assertEqual(said[0][-2:], ["--features", "cuda,vulkan,cuda-nvrtc"])

    def test_binaries_that_are_there(self):
        here = os.path.abspath(__file__)
        for given, expected in [(here, [here]), ("nice sana", ["nice", "sana"]), ("packed/run sana", [os.path.abspath("packed/run"),
                                                                      "sana"])]:
            options = compare.parse(["--sana", given])
            command = compare.build(options)
            self.assertEqual(command, expected)
            sides = compare.commands(options, command, options.cases[0])
            self.assertEqual(sides["sana"][:len(expected) + 1], [*expected, "bench"])

    def test_selection(self):
        options = compare.parse(["--only", "text,attention"])
        self.assertEqual({case.component for case in options.cases}, {"text", "attention"})
        options = compare.parse(["--variant", "sana-600m-1024px"])
        self.assertEqual([case.size for case in options.cases], [1024])

    def test_refusals(self):
        self.assertIn("--timeout", fails(compare.parse, ["--timeout", "0"]))
        self.assertIn("vae", fails(compare.parse, ["--only", "vae"]))
        self.assertIn("fp8", fails(compare.parse, ["--dtype", "fp8"]))
        self.assertIn("--rounds", fails(compare.parse, ["--rounds", "0"]))
        self.assertIn("sana-9b", fails(compare.parse, ["--variant", "sana-9b"]))
        parse = torch_bench.parse
        self.assertIn("unknown component vae", fails(parse, ["--component", "dit,vae"]))
        self.assertIn("--variant", fails(parse, ["--component", "dit", "--variant", "sana-9b"]))
        self.assertIn("multiples of 32", fails(parse, ["--component", "dit", "--size", "100x64"]))
        self.assertIn("--repeat", fails(parse, ["--component", "dit", "--repeat", "0"]))

    def test_both_sides_have_the_same_options(self):
        for case in compare.parse([]).cases + compare.parse(["--device", "cuda"]).cases:
            options = torch_bench.parse([*case.options(), "--repeat", "1", "--warmup", "0"])
            self.assertEqual(options.component, [case.component])
            self.assertEqual(options.dtype, case.dtype)
            if case.size:
                self.assertEqual(options.size, (case.size, case.size))


class Tables(unittest.TestCase):
    def rows(self):
        case = compare.Case("dit", "m", "f32", 512, target=compare.Target(0.85))
        results = {
            "sana": {name: compare.Results(entry, entry["seconds"]) for name, entry in {
                "dit": record("dit", [0.5, 0.4, 0.6]), "dit_text": record("dit_text", [0.1]),
            }.items()},
            "PyTorch": {name: compare.Results(entry, entry["seconds"]) for name, entry in {
                "dit": record("dit", [1.0, 1.2, 0.8], parameters=8),
                "dit_cached": record("dit_cached", [0.8]), "dit_text": record("dit_text", [0.2]),
            }.items()},
        }
        return compare.rows_of(case, results, {})

    def test_pieces(self):
        whole, cached, text = self.rows()
        self.assertEqual(whole.ratio("PyTorch"), 0.5)
        self.assertTrue(whole.met())
        # Ours has the text's keys and values made once in any case.
        self.assertEqual((cached.piece, cached.median("sana")), ("dit_cached", 0.5))
        self.assertEqual(cached.ratio("PyTorch"), 0.625)
        self.assertEqual((text.ratio("PyTorch"), text.target), (0.5, None))
        notes = list(compare.differences(whole))
        self.assertEqual(len(notes), 1)
        self.assertIn("parameters differ, 7 in sana and 8", notes[0])

    def test_targets(self):
        whole = self.rows()[0]
        for target, met in [(compare.Target(0.49), False), (compare.Target(0.5, "best"), True),
                            (compare.Target(0.5, "seconds"), True),
                            (compare.Target(0.4, "seconds"), False)]:
            whole.target = target
            self.assertEqual(whole.met(), met, target)
        del whole.sides["PyTorch"]
        whole.target = compare.Target(0.85)
        self.assertIsNone(whole.met())

    def test_slope(self):
        def attention(tokens, seconds):
            case = compare.Case("attention", "m", "f32", tokens=tokens)
            side = compare.Results(record("attention", [seconds]), [seconds])
            return compare.Row(case, "attention", {"sana": side}, None, {})

        # Below 2048 tokens a run is not yet in proportion, and is left out.
        rows = [attention(1024, 9.0)] + [attention(1024 << n, 3.0 * 2.0 ** (1.5 * n))
                                         for n in range(1, 5)]
        self.assertAlmostEqual(compare.slope(rows, "sana", "f32"), 1.5)
        self.assertIsNone(compare.slope(rows, "PyTorch", "f32"))
        self.assertIsNone(compare.slope(rows[:3], "sana", "f32"))

    def test_the_ceiling_is_the_device_s_own(self):
        """Fake measurements of two ways to one GPU: shares are of the matmul in the same type
        by the same way, and slopes of the first way alone."""
        def row(component, device, dtype, ours, theirs, gflop):
            case = compare.Case(component, "m", dtype, device=device)
            sides = {side: compare.Results(record(component, [time], gflop=gflop), [time])
                     for side, time in [("sana", ours), ("PyTorch", theirs)]}
            return compare.Row(case, component, sides, None, {})

        rows = [row("matmul", None, "f32", 2.0, 1.0, 1000.0), row("dit", None, "f32", 1.0, 1.0, 500.0),
                row("matmul", "vulkan", "f32", 4.0, 2.0, 1000.0),
                row("dit", "vulkan", "f32", 2.0, 1.0, 500.0)]
        self.assertEqual(compare.ceiling(rows, rows[1].case), 1000.0)
        self.assertEqual(compare.ceiling(rows, rows[3].case), 500.0)
        text = compare.markdown(dict(title="T", facts={}), rows, [], ["sana", "PyTorch"])
        lines = [line for line in text.splitlines() if line.startswith("| dit")]
        self.assertIn("| 500 | 50 % |", lines[0])
        self.assertIn("sana on vulkan", lines[1])
        self.assertIn("| 250 | 50 % |", lines[1])

    def test_markdown_without_pytorch(self):
        row = self.rows()[0]
        del row.sides["PyTorch"]
        head = dict(title="T", facts={"date": "today"})
        text = compare.markdown(head, [row], ["PyTorch was not measured"], ["sana"])
        self.assertIn("| dit, 512x512 px | m | f32 | 500 ms (450 ms to 550 ms) | <= 0.85 |", text)
        self.assertIn("- PyTorch was not measured", text)
        self.assertNotIn("sana / PyTorch", text)


class Runs(unittest.TestCase):
    """With two small programs in place of the sides."""

    def program(self, folder, name, text):
        path = os.path.join(folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!{sys.executable}\n{text}")
        os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)
        return path

    def run_compare(self, sana, python, *more):
        with tempfile.TemporaryDirectory() as folder:
            log = os.path.join(folder, "log")
            open(log, "w", encoding="utf-8").close()
            entry = json.dumps(record("attention", [2.0]))
            python = python and f"""
import sys
if sys.argv[1] == "-c": sys.exit(0)
open({log!r}, "a").write("p")
{python.replace("ENTRY", repr(entry))}
"""
            sana = f"open({log!r}, 'a').write('s')\n" + sana.replace("ENTRY", repr(entry))
            programs = ["--sana", self.program(folder, "sana", sana)]
            missing = os.path.join(folder, "none")
            found = self.program(folder, "python", python) if python else missing
            out = os.path.join(folder, "made", "table")
            said, printed = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(printed):
                code = compare.main(["--variant", "scenes", "--only", "attention", "--rounds", "2",
                                     "--out", out, *programs, "--python", found, *more])
            with open(f"{out}.md", encoding="utf-8") as file:
                self.assertEqual(file.read(), said.getvalue())
            with open(f"{out}.csv", encoding="utf-8") as file:
                lines = list(csv.DictReader(file))
            with open(log, encoding="utf-8") as file:
                return code, said.getvalue(), lines, file.read()

    def test_turns(self):
        code, text, lines, turns = self.run_compare("print(ENTRY)", "print(ENTRY)")
        self.assertEqual((code, turns), (0, "spsp"))
        self.assertEqual([line["side"] for line in lines], ["sana", "PyTorch"])
        self.assertEqual((lines[0]["seconds"], lines[0]["runs"]), ("2 2", "2"))
        self.assertEqual(lines[1]["ratio"], "1.0")
        self.assertIn("| 1.00 |", text)

    def test_a_side_that_fails(self):
        bad = "sys.stderr.write('error: no memory\\n'); sys.exit(1)"
        code, text, lines, turns = self.run_compare("print(ENTRY)", bad)
        # It is not tried again.
        self.assertEqual((code, turns), (0, "sps"))
        self.assertIn("| failed |", text)
        self.assertIn("PyTorch failed: error: no memory", text)
        self.assertEqual([line["error"] for line in lines], ["", "error: no memory"])

    def test_pytorch_is_missing(self):
        code, text, lines, turns = self.run_compare("print(ENTRY)", None)
        self.assertEqual((code, turns, len(lines)), (0, "ss", 1))
        self.assertIn("PyTorch was not measured", text)

    def test_a_side_that_hangs(self):
        hangs = "import time; time.sleep(60)"
        done = self.run_compare("print(ENTRY)", hangs, "--timeout", "0.01")
        code, text, _, turns = done
        self.assertEqual((code, turns), (0, "sps"))
        self.assertIn("PyTorch failed: took longer than 0.01 minutes (--timeout)", text)

    def test_no_time_left(self):
        done = self.run_compare("print(ENTRY)", "print(ENTRY)", "--minutes", "0")
        code, text, lines, turns = done
        self.assertEqual((code, lines, turns), (1, [], ""))
        self.assertIn("for lack of time: attention scenes", text)

    def test_sana_is_missing(self):
        code, text, _, _ = self.run_compare("import sys; sys.exit('error: gone')", "print(ENTRY)")
        self.assertEqual(code, 1)
        self.assertIn("sana failed: error: gone", text)


class Kernels(unittest.TestCase):
    def case(self, folder, number, group, operation, shape, nanoseconds, elements=20_000):
        path = os.path.join(folder, str(number), "new")
        os.makedirs(path)
        with open(os.path.join(path, "benchmark.json"), "w", encoding="utf-8") as file:
            json.dump(dict(group_id=group, function_id=operation, value_str=shape,
                           throughput={"Elements": elements}), file)
        with open(os.path.join(path, "estimates.json"), "w", encoding="utf-8") as file:
            json.dump(dict(median=dict(point_estimate=nanoseconds)), file)

    def test_kernels_with_a_plain_form_are_rows(self):
        with tempfile.TemporaryDirectory() as folder:
            for number, case in enumerate([
                ("flex/kernels", "silu", "1x1024x20", 2e6),
                ("flex/kernels", "silu-plain", "1x1024x20", 4e6),
                ("flex/kernels", "silu", "1x512x20", 1e6),
                ("flex/kernels", "silu-plain", "1x512x20", 3e6),
                ("flex/kernels", "alone", "1x512x20", 3e6),
                ("flex/kernels", "silu", "1x9x6", 1e3, 54),
                ("flex/kernels", "silu-plain", "1x9x6", 1e3, 54),
                ("cuda/kernels", "silu", "1x512x20", 1e3),
                ("flex/attention", "silu-plain", "1x512x40", 1e3),
            ]):
                self.case(folder, number, *case)
            rows = kernels.pairs(kernels.measured(folder))
        self.assertEqual(rows, [("silu", "1x512x20", 1e-3, 3e-3), ("silu", "1x1024x20", 2e-3, 4e-3)])

    def test_numbers_of_labels(self):
        for label, expected in [("1x1024x2240", [1, 1024, 2240]),
                                ("512x1152->5760", [512, 1152, 5760]),
                                ("128->64 at 32x32", [128, 64, 32, 32])]:
            self.assertEqual(kernels.numbers(label), expected)

    def test_table(self):
        text = kernels.table([("silu", "1x2", 2e-3, 4e-3, 8e-3), ("other", "3", 2.5e-6, 1e-5, 1e-6)])
        self.assertIn("| `silu` | 1x2 | 2 ms | 4 ms | 8 ms | 0.50 | 0.25 |", text)
        self.assertIn("| `other` | 3 | 2.5 µs | 10 µs | 1 µs | 0.25 | 2.50 |", text)

    def test_a_kernel_without_a_form_is_an_error(self):
        class Torch:
            nn = type("nn", (), dict(functional=None))
            randn = None
        with self.assertRaises(SystemExit) as stop:
            kernels.torch_form("new_kernel", "1x2", Torch)
        self.assertIn("no PyTorch form of new_kernel", str(stop.exception))

    def test_median_of_ten_runs_at_least(self):
        ticks = iter(range(1000))
        runs = []
        seconds = kernels.timed(lambda: runs.append(0), 0.0, lambda: next(ticks))
        self.assertEqual((seconds, len(runs)), (1, 11))

    def test_nothing_measured(self):
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaises(SystemExit) as stop:
                kernels.main(["--criterion", folder])
        self.assertIn("cargo bench -p sana-benches --bench kernels", str(stop.exception))


class Profiles(unittest.TestCase):
    def test_call_chains(self):
        cases = [
            (["gemm_f32::microkernel::x", "gemm_common::gemm", "burn_flex::ops::matmul::matmul"],
             profile.MATMUL),
            # A product within a convolution.
            (["gemm_f32::microkernel::x", "sana_linear_attn::kernels::flex::conv::conv3x3::forward"],
             profile.CONVOLUTION),
            (["gemm_f32::microkernel::x", "rayon_core::job::StackJob"], profile.MATMUL),
            # A page fault belongs to what caused it.
            (["do_page_fault", "<closure in sana_linear_attn::kernels::flex::elementwise::silu>"],
             profile.ELEMENTWISE),
            (["__memcpy_avx512", "burn_flex::ops::cat::cat"], profile.COPY),
            (["asm_exc_page_fault", "main"], profile.MEMORY),
            (["asm_exc_page_fault", "Flex::float_cast", "Param::map::<sana::bench::models::Cast>"],
             profile.WEIGHTS),
            (["sana_linear_attn::kernels::flex::conv::depthwise::convolve"], profile.DEPTHWISE),
            (["sana_linear_attn::kernels::flex::conv::depthwise_gate::forward"], profile.DEPTHWISE),
            (["sana_linear_attn::kernels::flex::attention::softmax_attention::softmax_row"],
             profile.ATTENTION),
            (["<bf16 as sana_linear_attn::kernels::flex::gemm::avx512::Unit>::run"],
             profile.MATMUL),
            (["gemm_common::gemm", "sana_linear_attn::kernels::flex::gemm::grouped_linear::forward"],
             profile.MATMUL),
            (["__memmove", "sana_linear_attn::kernels::flex::layout::upsample"], profile.COPY),
            (["core::iter::map", "rayon::iter::plumbing::helper"], profile.LOOPS),
            (["__schedule", "futex_wait"], profile.IDLE),
            (["main"], profile.OTHER),
            ([], profile.OTHER),
        ]
        for frames, expected in cases:
            self.assertEqual(profile.operation(frames), expected, frames)

    def test_recorded_samples(self):
        with open(os.path.join(HERE, "samples.txt"), encoding="utf-8") as file:
            lines = file.readlines()
        # Of `sana bench` on two threads, with their call chains cut off after 13 frames.
        self.assertEqual(profile.fold_perf(lines), {
            profile.CONVOLUTION: 4, profile.MATMUL: 3, profile.ELEMENTWISE: 3, profile.DEPTHWISE: 3,
            profile.COPY: 3, profile.REDUCTION: 2, profile.MEMORY: 4, profile.WEIGHTS: 3,
            profile.IDLE: 1,
        })
        self.assertEqual(len(list(profile.samples(lines))), 26)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            profile.main(["perf", os.path.join(HERE, "samples.txt")])
        self.assertIn("| convolution | 4 | 18.2 % |", said.getvalue())
        self.assertIn("Left out: making weights and inputs 3, waiting", said.getvalue())

    def test_recorded_kernels(self):
        with open(os.path.join(HERE, "kernels.log"), encoding="utf-8") as file:
            lines = file.readlines()
        tables = list(profile.tables(lines))
        self.assertEqual([len(rows) for rows in tables], [5, 20])
        operations, kernels, launches = profile.fold_cubecl(lines, last=1)
        self.assertEqual(launches["DepthwiseKernel"], 56)
        # As the log's own last line says.
        total = next(line for line in reversed(lines) if "| Total" in line).split("|")
        self.assertAlmostEqual(operations.total(), profile.duration(total[2]), places=6)
        self.assertAlmostEqual(kernels.total(), operations.total())
        self.assertEqual(operations.most_common(1)[0][0], profile.DEPTHWISE)
        self.assertEqual(operations[profile.OTHER], 0)
        both, _, _ = profile.fold_cubecl(lines)
        self.assertGreater(both[profile.COPY], operations[profile.COPY])

    def test_kernel_names(self):
        for name, expected in [("MatmulEntry", profile.MATMUL), ("ElemwiseFuse", profile.ELEMENTWISE),
                               ("ConvTranspose2dDirectNhwcKernel", profile.CONVOLUTION),
                               ("ReduceKernelFused", profile.REDUCTION),
                               ("KernelBinop", profile.ELEMENTWISE), ("PrngKernel", profile.WEIGHTS),
                               ("CopyKernelPack", profile.COPY), ("Unheard", None)]:
            self.assertEqual(profile.first_match(profile.KERNELS, name), expected, name)

    def test_durations(self):
        for text, expected in [("1.5ms", 1.5e-3), ("22.243µs", 22.243e-6), ("3s", 3.0),
                               ("120ns", 120e-9)]:
            self.assertAlmostEqual(profile.duration(text), expected, places=12)
        with self.assertRaises(ValueError):
            profile.duration("soon")

    def test_nothing_to_fold(self):
        for arguments in (["perf", os.devnull], ["cubecl", os.devnull]):
            with self.assertRaises(SystemExit) as stop:
                profile.main(arguments)
            self.assertIn("error: no", str(stop.exception))


if __name__ == "__main__":
    unittest.main()
