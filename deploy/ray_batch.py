#!/usr/bin/env python3
"""The images of a file of prompts, by the workers of a Ray cluster.

    python3 deploy/ray_batch.py prompts.jsonl images SHARES [OPTION...]

What follows are options of `sana generate`. The folder is one that all nodes reach, and `sana` is in the path of
each. A share that fails is begun again on another worker, and makes what is not there. Needs `ray`.
"""

import json
import subprocess
import sys


def make(number, shares, prompts, folder, options):
    """Makes a share, and returns how many images it made and skipped."""
    command = ["sana", "generate", "--prompts", prompts, "--out", folder, "--shard", f"{number}/{shares}", "--json"]
    run = subprocess.run([*command, *options], stdout=subprocess.PIPE, text=True)
    events = [json.loads(line) for line in run.stdout.splitlines()]
    last = events[-1] if events else {"event": "error", "message": f"exit status {run.returncode}"}
    if run.returncode or last["event"] != "done":
        raise RuntimeError(f"share {number}/{shares}: {last.get('message', 'it did not end')}")
    return last["images"], last["skipped"]


def main():
    import ray

    prompts, folder, shares, *options = sys.argv[1:]
    shares = int(shares)
    ray.init()
    remote = ray.remote(num_cpus=1, max_retries=3, retry_exceptions=True)(make)
    done = ray.get([remote.remote(number, shares, prompts, folder, options) for number in range(1, shares + 1)])
    print(f"made {sum(images for images, _ in done)} images, {sum(skipped for _, skipped in done)} existed")


if __name__ == "__main__":
    main()
