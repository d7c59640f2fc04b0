"""The table of the dry run."""

import csv
import datetime
import platform
import subprocess

UNIT = {"dit": "a forward pass", "decode": "a decode", "encode": "an encode", "text": "a prompt",
        "generate": "a step of an image", "train": "a training step", "kernels": "all cases", "forms": "all forms"}
COUNTS = ["launches", "uploads", "downloads", "copies", "fills", "row_copies", "waits"]
TITLES = {
    "dit": "Transformer, one forward pass (`sana bench --component dit`)",
    "decode": "Decoder, one image (`--component decode`)",
    "encode": "Encoder, one image (`--component encode`)",
    "text": "Text encoder, 300 tokens (`--component text`)",
    "generate": "`sana generate`, one denoising step",
    "train": "`sana train`, one step",
    "kernels": "criterion, whole files",
    "forms": "The project's own kernels in every form (`cube_forms` of sana-linear-attn)",
}


def output(*command, cwd=None):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def facts(root, ptxas, features):
    commit = output("git", "rev-parse", "--short", "HEAD", cwd=root)
    if output("git", "status", "--porcelain", "--untracked-files=no", cwd=root):
        commit += " with changes"
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        cpu = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    lock = (root / "Cargo.lock").read_text()
    version = lambda name: lock.split(f'name = "{name}"\nversion = "')[1].split('"')[0]
    return {
        "date": f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
        "commit": commit,
        "features": features,
        "versions": ", ".join(f"{name} {version(name)}" for name in ["burn", "cubecl", "cubek", "cudarc"]),
        "ptxas": output(str(ptxas), "--version").splitlines()[-1:],
        "processor of the host": cpu,
    }


def number(value):
    if value is None:
        return ""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def row(result):
    """A line of the CSV."""
    unit = result.get("unit") or {}
    total = result.get("total") or {}
    line = {"case": result["case"], "status": result["status"], "unit": UNIT[result["kind"]], "tuning": result.get("tuning")}
    line |= {name: unit.get(name) for name in COUNTS}
    line |= {f"total_{name}": total.get(name) for name in COUNTS}
    line |= {
        "kernels": result.get("kernels"), "refused": len(result.get("refused") or {}),
        "spilled": len(result.get("spilled") or {}),
        "most_spilled_bytes": max((result.get("spilled") or {"": 0}).values(), default=0),
        "faults": sum((result.get("faults") or {}).values()), "panics": result.get("panics"),
        "largest_rows": result.get("largest_rows"), "peak_bytes": result.get("peak_bytes"),
        "seconds": result.get("seconds"),
    }
    return line


def line(result):
    """A result in words."""
    values = {key: value for key, value in row(result).items() if value not in (None, "") and key not in ["case", "unit"]}
    return ", ".join(f"{key} {value}" for key, value in values.items() if not key.startswith("total_"))


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return {line["case"]: line for line in csv.DictReader(file)}


def cell(line, before, key, scale=1.0, text="{}"):
    """A number, and what it was."""
    if line.get(key) is None:
        return ""
    now = number(line[key] / scale)
    old = before.get(key) if before else None
    if old in (None, "") or number(float(old) / scale) == now:
        return now
    return f"{number(float(old) / scale)} → {now}"


def markdown(results, about, before):
    lines = [f"# CUDA without a GPU, {about['date'][:10]}", ""]
    lines += [
        "Made by [`.ci/cuda-dry-run/run`](../../.ci/cuda-dry-run/run): the CUDA build ran to its end over a stand-in",
        "for the driver, which has `ptxas` compile each kernel, checks and counts launches and copies, and computes",
        "nothing. **No GPU has confirmed any of this**: whether results are right, and how long anything takes, is",
        "not in this table. What each column means: [backends.md](../backends.md#the-dry-run).", "",
    ]
    lines += [f"- {key}: {', '.join(value) if isinstance(value, list) else value}" for key, value in about.items()]
    for kind, title in TITLES.items():
        chosen = [result for result in results if result["kind"] == kind]
        if not any(result["status"] != "not run" for result in chosen):
            continue
        lines += ["", f"## {title}", ""]
        head = ["case", "launches", "uploads", "copies and fills", "downloads", "waits", "copies by rows", "largest, rows",
                "kernels", "refused", "spilling", "faults", "peak, GiB"]
        if kind in ["generate", "train"]:
            lines += ["The difference of two images or runs: what caches and tuning did in one of them shows as a fraction, or below 0.", ""]
        lines += ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
        for result in chosen:
            if result["status"] == "not run":
                continue
            now, old = row(result), before.get(result["case"])
            prefix = "" if result.get("unit") else "total_"
            now["moved"] = (now[prefix + "copies"] or 0) + (now[prefix + "fills"] or 0) if now[prefix + "copies"] is not None else None
            if old and old.get(prefix + "copies"):
                old["moved"] = float(old[prefix + "copies"]) + float(old[prefix + "fills"])
            keys = [prefix + "launches", prefix + "uploads", "moved", prefix + "downloads", prefix + "waits", "total_row_copies",
                    "largest_rows", "kernels", "refused", "spilled", "faults"]
            cells = [cell(now, old, key) for key in keys] + [cell(now, old, "peak_bytes", 2.0**30)]
            name = result["case"].split("/", 1)[1]
            mark = "" if result.get("tuning") != "first" else " *"
            mark += "" if result["status"] == "ok" else f" ({result['status']})"
            lines.append(f"| {name}{mark} | " + " | ".join(cells) + " |")
    if any(result.get("tuning") == "first" for result in results):
        lines += ["", "\\* autotuning took its first candidate: only what runs was compiled, not what a GPU would have tried."]
    lines += section("Refused by ptxas", results, "refused", lambda name, cause: f"`{name}`: {cause}")
    lines += section("What a GPU would have refused", results, "faults", lambda text, count: f"{text} ({count} times)")
    survived = [result | {"survived": {f"{result['panics']} panics": 1}} if result.get("panics") else result for result in results]
    lines += section("Panics that the program survived", survived, "survived", lambda text, _: text)
    much = [result | {"spilled": {name: size for name, size in (result.get("spilled") or {}).items() if size >= 256}}
            for result in results]
    lines += section("Spilling 256 bytes or more", much, "spilled", lambda name, size: f"`{name}`: {size} bytes")
    failed = [result for result in results if result["status"] not in ["ok", "not run"]]
    if failed:
        lines += ["", "## Cases that did not end well", ""]
        for result in failed:
            said = " ".join(result.get("said", "").split())[-300:]
            lines.append(f"- `{result['case']}`: {result['status']}" + (f"; {said}" if said else ""))
    missing = [result["case"] for result in results if result["status"] == "not run"]
    if missing:
        lines += ["", "## Not run", "", ", ".join(f"`{name}`" for name in missing)]
    return "\n".join(lines) + "\n"


def section(title, results, key, text):
    """What several cases have in common, once, with the number of cases."""
    found = {}
    for result in results:
        for name, value in (result.get(key) or {}).items():
            found.setdefault(text(name, value), []).append(result["case"])
    if not found:
        return []
    lines = ["", f"## {title}", ""]
    for entry, where in sorted(found.items(), key=lambda item: -len(item[1])):
        several = "s" if len(where) > 1 else ""
        lines.append(f"- {entry}; in {len(where)} case{several}, first `{where[0]}`")
    return lines


def write(prefix, text, results):
    with open(f"{prefix}.md", "w", encoding="utf-8") as file:
        file.write(text)
    rows = [row(result) for result in results]
    with open(f"{prefix}.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
