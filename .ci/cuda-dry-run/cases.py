"""What the dry run runs: `sana bench`, `sana generate` and `sana train`, and the cases of criterion."""

from dataclasses import dataclass, field

DTYPES = ["bf16", "f16", "f32"]


@dataclass
class Case:
    """One process."""

    kind: str  # what is counted: dit, decode, encode, text, generate, train, kernels or forms
    model: str
    dtype: str
    size: int = 0
    options: list = field(default_factory=list)
    note: str = ""
    gpu: str = "h100"
    # Seconds after which it is given up.
    limit: int = 1800

    @property
    def name(self):
        words = [self.kind, self.model, self.dtype] + ([str(self.size)] if self.size else [])
        words += [self.note] if self.note else []
        words += [self.gpu] if self.gpu != "h100" else []
        return "/".join(words)


def networks():
    """Whole networks with weights that are made on the device: one run is one forward pass."""
    found = []
    for dtype in DTYPES:
        for model, sizes in [
            ("sana-600m-512px", [512]),
            ("sana-600m-1024px", [1024]),
            ("sana-1600m-512px", [512]),
            ("sana-1600m-1024px", [1024]),
            ("sana-1600m-4kpx", [4096]),
            ("sana-1.5-1.6b", [1024]),
            ("sana-1.5-4.8b", [512, 1024, 4096]),
            ("sana-sprint-0.6b", [1024]),
            ("sana-sprint-1.6b", [512, 1024]),
        ]:
            found += [Case("dit", model, dtype, size) for size in sizes]
        found += [Case(kind, "sana-1600m-1024px", dtype, size) for kind in ["decode", "encode"]
                  for size in [512, 1024, 4096]]
        found.append(Case("text", "sana-1600m-1024px", dtype))
    found += [Case("dit", "sana-1600m-1024px", "bf16", 1024, gpu=gpu) for gpu in ["a100", "l40s"]]
    found += [Case("decode", "sana-1600m-1024px", "bf16", 1024, gpu=gpu) for gpu in ["a100", "l40s"]]
    return found


def images():
    """`sana generate` over checkpoints on disk: weights uploaded, four images of 8, 8, 4 and 8 steps."""
    found = [Case("generate", "built-in", dtype, 128) for dtype in DTYPES]
    found += [Case("generate", "built-in", "f32", 1024, ["--low-memory"], "tiles")]
    found += [Case("generate", "sana-600m-512px", dtype, 512) for dtype in DTYPES]
    found += [
        Case("generate", "sana-600m-512px", "bf16", 512, ["--controlnet"], "ControlNet"),
        Case("generate", "sana-1600m-1024px", "bf16", 1024),
        Case("generate", "sana-1600m-1024px", "bf16", 1024, ["--low-memory"], "tiles"),
        Case("generate", "sana-sprint-0.6b", "bf16", 1024),
        Case("generate", "sana-1600m-4kpx", "bf16", 4096),
        Case("generate", "sana-1600m-4kpx", "bf16", 4096, ["--low-memory"], "tiles"),
    ]
    return found


def training():
    """A few steps of the small models that are trained here."""
    return [Case("train", kind, "f32", options=options, note=note) for kind, options, note in [
        ("autoencoder", [], ""),
        ("transformer", [], ""),
        ("transformer", ["--optimizer", "muon"], "muon"),
    ]]


def kernels():
    """The cases of criterion at the shapes of the released models, and every form of the project's own kernels."""
    return [Case("kernels", bench, dtype) for bench in ["kernels", "attention", "glumbconv", "dit_block", "dcae", "gemma"]
            for dtype in DTYPES] + [Case("forms", "sana-linear-attn", "all")]


def all_cases():
    """Small ones first, so that what does not work at all shows early."""
    return sorted(images() + training() + networks() + kernels(), key=lambda case: (case.size >= 4096, case.dtype != "bf16"))
