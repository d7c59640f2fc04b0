#!/usr/bin/env python3
"""The work of `sana bench` in PyTorch, with diffusers' and transformers' own networks.

Options and JSON keys are those of `sana bench`; README.md next to this file says what differs.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time

COMPONENTS = ["dit", "decode", "encode", "text", "attention", "image", "matmul", "stream"]
TEXT_TOKENS = 300
STREAM = 1 << 27
GUIDANCE = 4.5
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCENES = os.path.join(ROOT, "sana-pipeline", "assets", "scenes")

# Configs of the released models, as their folders on the hub have them.
LARGE = dict(
    in_channels=32,
    out_channels=32,
    num_attention_heads=70,
    attention_head_dim=32,
    num_layers=20,
    num_cross_attention_heads=20,
    cross_attention_head_dim=112,
    cross_attention_dim=2240,
    caption_channels=2304,
    mlp_ratio=2.5,
    attention_bias=False,
    sample_size=32,
    patch_size=1,
    interpolation_scale=None,
    guidance_embeds=False,
    qk_norm=None,
)
SMALL = dict(
    LARGE,
    num_attention_heads=36,
    num_layers=28,
    num_cross_attention_heads=16,
    cross_attention_head_dim=72,
    cross_attention_dim=1152,
)
NORMED = dict(qk_norm="rms_norm_across_heads")
TRANSFORMERS = {
    "sana-600m-512px": dict(SMALL, sample_size=16),
    "sana-600m-1024px": SMALL,
    "sana-1600m-512px": dict(LARGE, sample_size=16),
    "sana-1600m-1024px": LARGE,
    "sana-1600m-2kpx": dict(LARGE, sample_size=64, interpolation_scale=1.0),
    "sana-1600m-4kpx": dict(LARGE, sample_size=128, interpolation_scale=2.0),
    "sana-1.5-1.6b": dict(LARGE, **NORMED),
    "sana-1.5-4.8b": dict(LARGE, num_layers=60, **NORMED),
    "sana-sprint-0.6b": dict(SMALL, guidance_embeds=True, **NORMED),
    "sana-sprint-1.6b": dict(LARGE, guidance_embeds=True, **NORMED),
}
AUTOENCODER = dict(
    in_channels=3,
    latent_channels=32,
    attention_head_dim=32,
    encoder_block_types=["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
    decoder_block_types=["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
    encoder_block_out_channels=[128, 256, 512, 512, 1024, 1024],
    decoder_block_out_channels=[128, 256, 512, 512, 1024, 1024],
    encoder_layers_per_block=[2, 2, 2, 3, 3, 3],
    decoder_layers_per_block=[3, 3, 3, 3, 3, 3],
    encoder_qkv_multiscales=[[], [], [], [5], [5], [5]],
    decoder_qkv_multiscales=[[], [], [], [5], [5], [5]],
    downsample_block_type="Conv",
    upsample_block_type="interpolate",
    scaling_factor=0.41407,
)
GEMMA = dict(
    hidden_size=2304,
    intermediate_size=9216,
    num_hidden_layers=26,
    num_attention_heads=8,
    num_key_value_heads=4,
    head_dim=256,
    query_pre_attn_scalar=256,
    sliding_window=4096,
    attn_logit_softcapping=50.0,
)


def read(path):
    with open(os.path.join(SCENES, path), encoding="utf-8") as file:
        config = json.load(file)
    return {key: value for key, value in config.items() if not key.startswith("_")}


class Models:
    """The configs of a variant."""

    def __init__(self, name):
        self.name = name
        if name == "scenes":
            self.transformer = read("transformer/config.json")
            self.autoencoder = read("vae/config.json")
            self.text = read("text_encoder/config.json")
            for key in ["architectures", "model_type"]:
                self.text.pop(key, None)
            self.shift = read("scheduler/scheduler_config.json").get("flow_shift", 3.0)
        else:
            self.transformer = TRANSFORMERS[name]
            self.autoencoder = AUTOENCODER
            self.text = GEMMA
            self.shift = 6.0 if name == "sana-1600m-4kpx" else 3.0
        self.sprint = bool(self.transformer.get("guidance_embeds"))
        stages = len(self.autoencoder["encoder_block_out_channels"])
        self.compression = 2 ** (stages - 1)
        self.unit = self.compression * self.transformer["patch_size"]
        self.width = self.transformer["num_attention_heads"] * self.transformer["attention_head_dim"]

    def rows(self, images):
        return images if self.sprint else 2 * images


def parser():
    """The options of `sana bench`, and PyTorch's own."""

    def number(smallest):
        def check(text):
            value = int(text)
            if value < smallest:
                raise ValueError
            return value

        check.__name__ = f"number from {smallest} on"
        return check

    def size(text):
        width, _, height = text.lower().partition("x")
        return int(width), int(height or width)

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--component", required=True, action="append", metavar="NAME,...",
                        help=", ".join(COMPONENTS))
    parser.add_argument("--variant", default="sana-600m-512px", metavar="NAME",
                        choices=[*TRANSFORMERS, "scenes"], help="as for sana bench")
    parser.add_argument("--size", type=size, metavar="WxH")
    parser.add_argument("--batch", type=number(1), default=1, metavar="N")
    parser.add_argument("--tokens", type=number(1), metavar="N")
    parser.add_argument("--steps", type=number(1), metavar="N")
    parser.add_argument("--dtype", choices=["f32", "bf16", "f16"], default="f32")
    parser.add_argument("--device", metavar="DEVICE",
                        help="cpu, cuda or cuda:N [default: cuda where there is one]")
    parser.add_argument("--threads", type=number(1), metavar="N")
    parser.add_argument("--repeat", type=number(1), default=5, metavar="N")
    parser.add_argument("--warmup", type=number(0), default=1, metavar="N")
    parser.add_argument("--compile", nargs="?", const="default", metavar="MODE",
                        help="torch.compile the networks, in a mode such as max-autotune")
    parser.add_argument("--tf32", action="store_true",
                        help="products of f32 in TF32, as burn computes them on CUDA")
    parser.add_argument("--json", action="store_true", help="an object on a line for each component")
    return parser


def check(parser, options):
    """The options, with what follows from them."""
    options.component = [component for components in options.component for component in components.split(",")]
    unknown = [component for component in options.component if component not in COMPONENTS]
    if unknown:
        parser.error(f"unknown component {unknown[0]}: choose from {', '.join(COMPONENTS)}")
    options.models = Models(options.variant)
    side = options.models.transformer["sample_size"] * options.models.compression
    options.size = options.size or (side, side)
    unit = options.models.unit
    if any(pixels < unit or pixels % unit for pixels in options.size):
        parser.error(f"the sides of --size must be multiples of {unit}")
    return options


def parse(arguments):
    made = parser()
    return check(made, made.parse_args(arguments))


class TextCache:
    """Cross-attention's processor with the text's keys and values computed once, as `sana` has
    them."""

    def __init__(self):
        self.key_value = None

    @staticmethod
    def heads(attention, tensor):
        return tensor.unflatten(-1, (attention.heads, -1)).transpose(1, 2)

    def fill(self, attention, text):
        key = attention.to_k(text)
        if attention.norm_k is not None:
            key = attention.norm_k(key)
        self.key_value = self.heads(attention, key), self.heads(attention, attention.to_v(text))

    def __call__(self, attention, hidden_states, encoder_hidden_states=None, attention_mask=None):
        import torch.nn.functional as F

        query = attention.to_q(hidden_states)
        if attention.norm_q is not None:
            query = attention.norm_q(query)
        key, value = self.key_value
        if attention_mask is not None:
            attention_mask = attention_mask[:, None]  # [rows, 1, 1, text tokens]
        out = F.scaled_dot_product_attention(
            self.heads(attention, query), key, value, attn_mask=attention_mask
        )
        out = out.transpose(1, 2).flatten(2)
        return attention.to_out[1](attention.to_out[0](out)) / attention.rescale_output_factor


def use_text_cache(model, caption):
    """Makes `model` compute what depends on the text alone here and not in every run."""
    import torch

    class Projected(torch.nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def forward(self, _):
            return self.value

    text = model.caption_norm(model.caption_projection(caption))
    for block in model.transformer_blocks:
        cache = TextCache()
        cache.fill(block.attn2, text)
        block.attn2.set_processor(cache)
    model.caption_projection = Projected(text)
    model.caption_norm = torch.nn.Identity()


def linear_attention(query, key, value, heads):
    """The body of diffusers' SanaLinearAttnProcessor2_0 between its projections."""
    import torch
    import torch.nn.functional as F

    dtype = query.dtype
    query = query.transpose(1, 2).unflatten(1, (heads, -1))
    key = key.transpose(1, 2).unflatten(1, (heads, -1)).transpose(2, 3)
    value = value.transpose(1, 2).unflatten(1, (heads, -1))
    query, key = F.relu(query), F.relu(key)
    query, key, value = query.float(), key.float(), value.float()
    value = F.pad(value, (0, 0, 0, 1), mode="constant", value=1.0)
    scores = torch.matmul(value, key)
    out = torch.matmul(scores, query)
    out = out[:, :, :-1] / (out[:, :, -1:] + 1e-15)
    return out.flatten(1, 2).transpose(1, 2).to(dtype)


class Bench:
    """Builds the components on a device, which may be `meta` to count operations alone."""

    def __init__(self, options, device):
        import torch

        self.torch = torch
        self.options = options
        self.models = options.models
        self.device = device
        self.dtype = dict(f32=torch.float32, bf16=torch.bfloat16, f16=torch.float16)[options.dtype]
        self.parameters = 0
        self.weights_bytes = 0
        self.seed = 0

    def make(self, build):
        """A network with random weights, in the dtype from the start."""
        torch = self.torch
        torch.set_default_dtype(self.dtype)
        try:
            with torch.device(self.device):
                model = build()
        finally:
            torch.set_default_dtype(torch.float32)
        # Buffers such as rotary frequencies stay in f32, as from_pretrained leaves them.
        return model.eval().requires_grad_(False)

    def count(self, *models):
        weights = [weight for model in models for weight in model.parameters()]
        self.parameters = sum(weight.numel() for weight in weights)
        self.weights_bytes = sum(weight.numel() * weight.element_size() for weight in weights)

    def random(self, *shape, dtype=None):
        self.seed += 1
        if self.device == "meta":
            return self.torch.empty(shape, device="meta", dtype=dtype or self.dtype)
        generator = self.torch.Generator().manual_seed(self.seed)
        values = self.torch.randn(shape, generator=generator)
        return values.to(self.device, dtype or self.dtype)

    def ones(self, *shape, dtype=None):
        return self.torch.ones(shape, device=self.device, dtype=dtype or self.torch.float32)

    def compiled(self, module):
        mode = self.options.compile
        if mode and self.device != "meta":
            module.compile(mode=None if mode == "default" else mode)

    def transformer(self):
        from diffusers import SanaTransformer2DModel

        return self.make(lambda: SanaTransformer2DModel(**self.models.transformer))

    def autoencoder(self, half):
        from diffusers import AutoencoderDC

        vae = self.make(lambda: AutoencoderDC(**self.models.autoencoder))
        setattr(vae, "encoder" if half == "decoder" else "decoder", None)
        return vae

    def text_encoder(self):
        from transformers import Gemma2Config, Gemma2Model

        # Without its table of embeddings, which the layers do not need.
        config = Gemma2Config(**dict(self.models.text, vocab_size=8, pad_token_id=0,
                                     bos_token_id=2, eos_token_id=1))
        model = self.make(lambda: Gemma2Model(config))
        model.embed_tokens = None
        return model

    def latents(self, rows):
        width, height = self.options.size
        scale = self.models.compression
        channels = self.models.autoencoder["latent_channels"]
        return self.random(rows, channels, height // scale, width // scale,
                           dtype=self.torch.float32)

    def image_tokens(self):
        width, height = self.options.size
        return (width // self.models.unit) * (height // self.models.unit)

    def shape(self, rows, **more):
        keys = dict(rows=rows, width=None, height=None, tokens=None, text_tokens=None, steps=None,
                    gbyte=None)
        return dict(keys, **more)

    def pixels(self):
        width, height = self.options.size
        return dict(width=width, height=height)

    # Every component yields (name, what depends on the options, function).

    def dit(self):
        torch = self.torch
        rows = self.models.rows(self.options.batch)
        model = self.transformer()
        self.count(model)
        latents = self.latents(rows)
        caption = self.random(rows, TEXT_TOKENS, self.models.transformer["caption_channels"])
        mask = self.ones(rows, TEXT_TOKENS)
        time_ = torch.full((rows,), 500.0, device=self.device)
        guidance = None
        if self.models.sprint:
            scale = GUIDANCE * model.config.guidance_embeds_scale
            guidance = torch.full((rows,), scale, device=self.device, dtype=self.dtype)

        def step():
            return model(latents.to(self.dtype), encoder_hidden_states=caption, timestep=time_,
                         guidance=guidance, encoder_attention_mask=mask,
                         return_dict=False)[0].float()

        def text():
            projected = model.caption_norm(model.caption_projection(caption))
            made = []
            for block in model.transformer_blocks:
                cache = TextCache()
                cache.fill(block.attn2, projected)
                made.append(cache.key_value)
            return made

        shape = self.shape(rows, text_tokens=TEXT_TOKENS)
        whole = dict(shape, tokens=self.image_tokens(), **self.pixels())
        yield "dit_text", shape, text
        self.compiled(model)
        yield "dit", whole, step
        if self.options.compile:
            torch._dynamo.reset()
        use_text_cache(model, caption)
        yield "dit_cached", whole, step

    def decode(self):
        rows = self.options.batch
        vae = self.autoencoder("decoder")
        self.count(vae)
        self.compiled(vae.decoder)
        latents = self.latents(rows)

        def run():
            scaled = (latents / vae.config.scaling_factor).to(self.dtype)
            return vae.decode(scaled, return_dict=False)[0].float()

        yield "decode", self.shape(rows, **self.pixels()), run

    def encode(self):
        rows = self.options.batch
        vae = self.autoencoder("encoder")
        self.count(vae)
        self.compiled(vae.encoder)
        width, height = self.options.size
        image = self.random(rows, self.models.autoencoder["in_channels"], height, width,
                            dtype=self.torch.float32)
        if self.device != "meta":
            image.clamp_(-1, 1)

        def run():
            latents = vae.encode(image.to(self.dtype), return_dict=False)[0].float()
            return latents * vae.config.scaling_factor

        yield "encode", self.shape(rows, **self.pixels()), run

    def text(self):
        rows, tokens = self.options.batch, self.options.tokens or TEXT_TOKENS
        model = self.text_encoder()
        self.count(model)
        self.compiled(model)
        embeddings = self.random(rows, tokens, self.models.text["hidden_size"])
        mask = self.ones(rows, tokens, dtype=self.torch.int64)

        def run():
            return model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False)[0]

        yield "text", self.shape(rows, tokens=tokens), run

    def attention(self):
        rows, tokens = self.options.batch, self.options.tokens or self.image_tokens()
        query, key, value = (self.random(rows, tokens, self.models.width) for _ in range(3))
        heads = self.models.transformer["num_attention_heads"]
        function = linear_attention
        if self.options.compile and self.device != "meta":
            mode = self.options.compile
            function = self.torch.compile(function, mode=None if mode == "default" else mode)
        yield "attention", self.shape(rows, tokens=tokens), lambda: function(query, key, value, heads)

    def image(self):
        import diffusers

        models, images = self.models, self.options.batch
        tokens = self.options.tokens or TEXT_TOKENS
        steps = self.options.steps or (2 if models.sprint else 20)
        rows = models.rows(images)
        text, transformer = self.text_encoder(), self.transformer()
        vae = self.autoencoder("decoder")
        self.count(text, transformer, vae)
        for module in [text, transformer, vae.decoder]:
            self.compiled(module)
        components = dict(tokenizer=None, text_encoder=None, vae=vae, transformer=transformer)
        if models.sprint:
            scheduler = diffusers.SCMScheduler(prediction_type="trigflow", sigma_data=0.5)
            pipeline = diffusers.SanaSprintPipeline(scheduler=scheduler, **components)
        else:
            scheduler = diffusers.DPMSolverMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=models.shift
            )
            pipeline = diffusers.SanaPipeline(scheduler=scheduler, **components)
        pipeline.set_progress_bar_config(disable=True)
        embeddings = self.random(rows, tokens, models.text["hidden_size"])
        mask = self.ones(rows, tokens, dtype=self.torch.int64)
        latents = self.latents(images)
        width, height = self.options.size

        def run():
            captions = text(inputs_embeds=embeddings, attention_mask=mask, use_cache=False)[0]
            options = dict(
                prompt_embeds=captions[-images:],
                prompt_attention_mask=mask[-images:],
                num_inference_steps=steps,
                guidance_scale=GUIDANCE,
                width=width,
                height=height,
                use_resolution_binning=False,
                output_type="pt",
                return_dict=False,
            )
            if models.sprint:
                if steps != 2:
                    options.update(intermediate_timesteps=None)
                options.update(latents=latents * 0.5)
            else:
                options.update(
                    negative_prompt=None,
                    negative_prompt_embeds=captions[:images],
                    negative_prompt_attention_mask=mask[:images],
                    latents=latents,
                )
            return pipeline(**options)[0]

        shape = self.shape(rows, tokens=self.image_tokens(), text_tokens=tokens, steps=steps)
        yield "image", dict(shape, **self.pixels()), run

    def matmul(self):
        # On the device that is measured, also where operations alone are counted.
        default = 8192 if (self.options.device or "cpu").startswith("cuda") else 2048
        side = self.options.tokens or default
        a, b = self.random(side, side), self.random(side, side)
        yield "matmul", self.shape(1, tokens=side), lambda: a @ b

    def stream(self):
        x = self.ones(STREAM, dtype=self.dtype)
        gbyte = 2 * STREAM * x.element_size() / 1e9
        yield "stream", self.shape(1, tokens=STREAM, gbyte=gbyte), lambda: x * 2


def gigaflop(options, component):
    """Operations of matmuls and convolutions of each piece of a component, as PyTorch counts
    them, without computing: {} where that is not possible."""
    if component in ["image", "stream"]:
        return {}
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counted = {}
    try:
        for name, _, run in getattr(Bench(options, "meta"), component)():
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                run()
            counted[name] = counter.get_total_flops() / 1e9
    except (NotImplementedError, RuntimeError) as error:
        print(f"note: the operations of {component} are not counted: {error}", file=sys.stderr)
    return counted


def peak_memory():
    """Largest resident size of the process in bytes since reset_peak; None off Linux."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            line = next(line for line in file if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return None


def reset_peak():
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        pass


def measure(options, device, run):
    """Seconds of every run that counts, peaks of memory, and whether the result is finite."""
    import torch

    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    reset_peak()
    seconds, result = [], None
    with torch.no_grad():
        for index in range(options.warmup + options.repeat):
            result = None
            if cuda:
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                torch.cuda.synchronize()
                start.record()
                result = run()
                end.record()
                torch.cuda.synchronize()
                elapsed = start.elapsed_time(end) / 1e3
            else:
                begun = time.perf_counter()
                result = run()
                elapsed = time.perf_counter() - begun
            if index >= options.warmup:
                seconds.append(elapsed)
    peak = peak_memory()
    reserved = torch.cuda.max_memory_reserved() if cuda else None
    finite = not torch.is_tensor(result) or bool(result.float().abs().sum().isfinite())
    return seconds, peak, reserved, finite


def quartiles(seconds):
    if len(seconds) == 1:
        return seconds * 3
    return statistics.quantiles(seconds, n=4, method="inclusive")


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        return names[0] if names else None
    except OSError:
        return platform.processor() or None


def versions():
    import diffusers
    import torch
    import transformers

    return (f"torch {torch.__version__}, diffusers {diffusers.__version__}, "
            f"transformers {transformers.__version__}")


def record(options, bench, name, shape, run, work):
    """What `sana bench --json` prints of a measurement."""
    import torch

    cuda = bench.device.startswith("cuda")
    seconds, peak, reserved, finite = measure(options, bench.device, run)
    lower, median, upper = quartiles(seconds)
    gflop, gbyte = work.get(name), shape["gbyte"]
    return dict(
        component=name,
        variant=options.variant,
        batch=options.batch,
        dtype=options.dtype,
        **{key: value for key, value in shape.items() if key != "gbyte"},
        implementation="pytorch",
        version=versions(),
        compile=options.compile,
        device=bench.device,
        device_name=torch.cuda.get_device_name() if cuda else processor(),
        cpu=processor(),
        threads=torch.get_num_threads(),
        warmup=options.warmup,
        repeat=options.repeat,
        median_s=median,
        min_s=min(seconds),
        lower_quartile_s=lower,
        upper_quartile_s=upper,
        seconds=seconds,
        gflop=gflop,
        gflop_per_s=gflop and gflop / median,
        gbyte=gbyte,
        gbyte_per_s=gbyte and gbyte / median,
        parameters=bench.parameters,
        weights_bytes=bench.weights_bytes,
        peak_memory_bytes=peak,
        device_memory_bytes=reserved,
        finite=finite,
    )


def show(record):
    rate = f", {record['gflop_per_s']:.1f} GFLOP/s" if record["gflop_per_s"] else ""
    lower, upper = record["lower_quartile_s"], record["upper_quartile_s"]
    print(f"{record['component']:<10} {record['median_s']:.6f} s ({lower:.6f} to {upper:.6f}){rate}", flush=True)


def main(arguments=None):
    options = parse(arguments)
    import torch

    torch.set_grad_enabled(False)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.tf32:
        torch.set_float32_matmul_precision("high")
    device = options.device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda"):
        torch.cuda.set_device(torch.device(device if ":" in device else "cuda:0"))
    for component in options.component:
        work = gigaflop(options, component)
        bench = Bench(options, device)
        for name, shape, run in getattr(bench, component)():
            measured = record(options, bench, name, shape, run, work)
            if options.json:
                print(json.dumps(measured), flush=True)
            else:
                show(measured)
        del bench
        if device.startswith("cuda"):
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
