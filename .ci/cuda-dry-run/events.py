"""Reads what driver.c wrote of one process."""

import re
from collections import Counter

MOVED = {"L": "launches", "H": "uploads", "P": "row_copies", "D": "downloads", "C": "copies", "Z": "fills",
         "W": "waits"}
WORK = set("LHPDCZ")


class Trace:
    """The events of one process, in their order."""

    def __init__(self, path):
        self.kernels, self.refused, self.faults = {}, {}, Counter()
        self.events, self.largest_rows, self.peak = [], 0, 0
        self.names = {}
        in_use = 0
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                kind, _, rest = line.rstrip("\n").partition(" ")
                words = rest.split(" ")
                if kind == "M":
                    self.names[int(words[0])] = words[2]
                    numbers = dict(zip(["registers", "spill_stores", "spill_loads", "shared"], map(int, words[3:7])))
                    self.kernels[words[2]] = numbers
                elif kind == "X":
                    self.refused[words[0]] = " ".join(words[1:])
                elif kind == "E":
                    self.faults[re.sub(r"\b[0-9a-f]{9,}\b", "ADDRESS", rest)] += 1
                elif kind == "A":
                    in_use += int(words[1])
                    self.peak = max(self.peak, in_use)
                elif kind == "F":
                    in_use -= int(words[1])
                elif kind in MOVED:
                    self.events.append((kind, rest))
                    if kind == "P":
                        self.largest_rows = max(self.largest_rows, int(words[2]))

    @property
    def spilled(self):
        """Kernels that ptxas gave memory for want of registers: name to bytes stored."""
        return {name: kernel["spill_stores"] for name, kernel in self.kernels.items() if kernel["spill_stores"]}

    def counts(self, start=0, end=None):
        """Events between two positions."""
        found = Counter(MOVED[kind] for kind, _ in self.events[start:end])
        return Counter({name: found[name] for name in MOVED.values()})

    def launched(self, start=0, end=None):
        """Launches of each kernel between two positions."""
        return Counter(self.names[int(rest.split(" ", 1)[0])] for kind, rest in self.events[start:end] if kind == "L")

    def pauses(self):
        """Positions at which the host waited with nothing to wait for: `sana bench` does so between its
        runs, once at the end of one and once at the start of the next."""
        idle, found = False, []
        for at, (kind, _) in enumerate(self.events):
            if kind == "W":
                if idle and (not found or found[-1] != at - 1):
                    found.append(at + 1)
                elif idle:
                    found[-1] = at + 1
                idle = True
            elif kind in WORK:
                idle = False
        return found

    def last_run(self):
        """Start and end of a run of `sana bench`: of the spans between two pauses, the longest that launches
        what the span before it does. Tuning lies between pauses too, but does not repeat itself at such length."""
        pauses = self.pauses()
        spans = [(self.launched(start, end), start, end) for start, end in zip(pauses, pauses[1:])]
        spans = [span for span in spans if span[0]]
        same = [after for before, after in zip(spans, spans[1:]) if before[0] == after[0]]
        if not same:
            raise ValueError("no two runs of the trace are equal")
        return max(same, key=lambda span: (span[0].total(), span[1]))[1:]

    def images(self, bytes_of_image):
        """Positions after which an image of that many bytes has been read back."""
        def size(kind, rest):
            if kind == "D":
                return int(rest)
            words = rest.split(" ")
            return int(words[1]) * int(words[2]) if kind == "P" and words[0] == "down" else 0

        return [at + 1 for at, (kind, rest) in enumerate(self.events) if size(kind, rest) >= bytes_of_image]
